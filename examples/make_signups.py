"""Generate `examples/signups.csv`: a thousand invented sign-ups, plain and messy, with a fixed seed.

python examples/make_signups.py > examples/signups.csv
"""

import csv
import random
import sys
import unicodedata
from collections.abc import Callable

ROWS = 1000
FIRST = (
    *("Ada", "Björn", "Chloé", "Dmitri", "Éva", "Fatima", "Giulia", "Håkon", "Ines"),
    *("Jürgen", "Kōji", "Łukasz", "Mário", "Nur", "Olga", "Priya", "Quentin"),
)
LAST = (
    *("Álvarez", "Brontë", "Çelik", "Dvořák", "Eriksson", "Føroyar", "Garçon"),
    *("Hüsker", "Ivanova", "Jansen", "Kowalski", "Müller", "Nguyễn", "Ødegård"),
)
DOMAINS = ("example.com", "example.org", "mail.example.net", "example.co.uk", "bücher.example", "例え.example")
# Letters that Unicode does not decompose into a base letter and an accent.
SPECIAL = str.maketrans({"ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "đ": "d"})


def plain_address(rng: random.Random, number: int) -> str:
    """Return an address in the form that most people type."""
    name = unicodedata.normalize("NFD", f"{rng.choice(FIRST)}.{rng.choice(LAST)}".translate(SPECIAL))
    name = name.encode("ascii", "ignore").decode()
    return f"{name.lower()}{number}@{rng.choice(DOMAINS[:4])}"


def messy_address(rng: random.Random, number: int) -> str:
    """Return a valid address in an unusual form."""
    plain = plain_address(rng, number)
    local, _, domain = plain.partition("@")
    shapes: tuple[Callable[[], str], ...] = (
        plain.upper,
        lambda: f"  {plain}  ",
        lambda: f"{local}+news@{domain}",
        lambda: f"{local}@{rng.choice(DOMAINS[4:])}",
        lambda: f"{rng.choice(FIRST).lower()}{number}@{rng.choice(DOMAINS[4:])}",
        lambda: f"{local}@{domain.title()}",
        lambda: f"o'{local}@{domain}",
    )
    return rng.choice(shapes)()


def invalid_address(rng: random.Random, number: int) -> str:
    """Return a string that is not a valid address."""
    plain = plain_address(rng, number)
    local, _, domain = plain.partition("@")
    return rng.choice(
        (
            "",
            local,
            f"{local}@",
            f"@{domain}",
            f"{local}@@{domain}",
            f"{local} x@{domain}",
            f"{local}..x@{domain}",
            f"{local}@{domain}..",
            f"{'x' * 65}@{domain}",
            f"{local}\u202e@{domain}",
            f"{local}@localhost",
        )
    )


def signups(rng: random.Random) -> list[list[str]]:
    """Return a thousand rows: 75 % plain, 12 % messy, 5 % invalid, 4 % repeated, 4 % a mailbox respelt."""
    rows: list[list[str]] = []
    for number in range(ROWS):
        kind = rng.choices(("plain", "messy", "invalid", "again", "respelt"), (75, 12, 5, 4, 4))[0]
        if rows and kind == "again":
            rows.append(rng.choice(rows))
            continue
        address = {"messy": messy_address, "invalid": invalid_address}.get(kind, plain_address)(rng, number)
        if rows and kind == "respelt":
            address = rng.choice(rows)[0].swapcase()
        rows.append(
            [
                address,
                f"{rng.choice(FIRST)} {rng.choice(LAST)}",
                rng.choice(("en-GB", "de-DE", "fr-FR", "sv-SE", "ja-JP")),
                rng.choice(("web", "ios", "android")),
                rng.choice(("2026-01", "2026-09")),
                rng.choice(("yes", "no")),
            ]
        )
    return rows


def main() -> None:
    """Print the CSV file to standard output."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["email", "display_name", "locale", "source", "terms_version", "newsletter"])
    writer.writerows(signups(random.Random(20260101)))  # noqa: S311 a fixed seed; nothing is secret


if __name__ == "__main__":
    main()
