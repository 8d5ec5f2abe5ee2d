"""Plain addresses: checked without the `email_validator` package, with the same result as with it."""

import random
import subprocess
import sys
from collections.abc import Iterator

import email_validator
import pytest
from hypothesis.provisional import get_top_level_domains

from registration_persistence.domain.email import (
    _SPECIAL_USE_NAMES,
    _ascii_domain,
    _plain_domain,
    _validated,
    _validated_and_folded,
    normalise_email,
)
from registration_persistence.errors import InvalidEmail

LETTERS, DIGITS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
LABEL_LENGTHS = (*(1, 2, 3, 4, 5, 6, 8, 13) * 4, 62, 63, 64, 65)
TOP_LABELS = (
    *("com", "COM", "org", "museum", "co", "a", "example", "alt", "internal", "home", "localdomain"),
    *("arpa", "invalid", "local", "localhost", "onion", "test", "TEST", "Local", "tests", "atest", "xn--test"),
    *(
        "123",
        "1a",
        "a1",
        "0x7f",
        "c-",
        "-c",
        "",
        "xn--p1ai",
        "XN--P1AI",
        "xn--a",
        "a--b",
        "ab--c",
        "abc--d",
        "c_m",
        "com.",
    ),
)
INNER_LABELS = (
    *(
        "xn--bcher-kva",
        "XN--BCHER-KVA",
        "xn--",
        "xn--a",
        "axn--b",
        "a-xn--b",
        "xn-a",
        "xn---",
        "ab--cd",
        "abc--d",
        "a--",
    ),
    *("", "-", "--", "-a", "a-", "a-b", "a--b", "_dmarc", "a_b", "1", "127", "test", "local", "example", "arpa"),
)
LOCAL_PARTS = (
    *("a", "Ada", "ada.l", "ada+news", "ADA_L-2", "1", "-", "_", "+", "a.b.c", "postmaster", "Info"),
    *("x" * 63, "x" * 64, "x" * 65, "", ".a", "a.", "a..b", "a!b", "a b", "a'b", "o/b=c", '"a"', "a@b", "\u00e4"),
)


def random_label(chance: random.Random) -> str:
    """Return a label of letters, digits and hyphens, seldom another character, of a length near the limits."""
    length = chance.choice(LABEL_LENGTHS)
    characters = [chance.choice(LETTERS + DIGITS) for _ in range(length)]
    for place in (0, 1, 2, 3, length - 1):
        if place < length and chance.random() < 0.05:
            characters[place] = "-"
    if chance.random() < 0.02:
        characters[chance.randrange(length)] = chance.choice("_.!\u00e9\u0130\uff0e\u3002 ~")
    return "".join(characters)


def random_addresses(number: int, seed: int) -> Iterator[str]:
    """Return addresses at the borders of what is plain, of which about half are valid."""
    chance = random.Random(seed)  # noqa: S311 a repeatable choice, no secret
    for _ in range(number):
        labels = [
            chance.choice(INNER_LABELS) if chance.random() < 0.12 else random_label(chance)
            for _ in range(chance.choice((0, 1, 1, 1, 1, 2, 2, 3, 4)))
        ]
        labels.append(chance.choice(TOP_LABELS) if chance.random() < 0.6 else random_label(chance))
        local_part = chance.choice(LOCAL_PARTS) if chance.random() < 0.4 else f"ada{chance.randrange(100)}"
        yield f"{local_part}@{'.'.join(labels)}"


def assert_agreement(number: int, seed: int) -> None:
    """Compare the key, or the reason of the rejection, of each address with those of the full validation."""
    accepted = 0
    for address in random_addresses(number, seed):
        results = []
        for normalise in (normalise_email, _validated_and_folded):
            try:
                results.append(normalise(address.strip()).key)
            except InvalidEmail as error:
                results.append(f"rejected: {error}")
        assert results[0] == results[1], ascii(address)
        accepted += not results[0].startswith("rejected")
    _plain_domain.cache_clear()
    assert 0.2 * number < accepted < 0.8 * number


def test_a_plain_address_has_the_same_result_as_after_the_full_validation() -> None:
    """Another sample each time would find no more: a nightly test takes a million."""
    assert_agreement(4_000, seed=1)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(2, 6))
def test_a_million_addresses_have_the_same_result_as_after_the_full_validation(seed: int) -> None:
    """Hyphens, digits, dots, lengths, special-use names, single labels, Punycode, case and other characters."""
    assert_agreement(250_000, seed)


def test_each_top_level_domain_has_the_same_result_as_after_the_full_validation() -> None:
    """The list is that of the Internet Assigned Numbers Authority, as hypothesis contains it."""
    domains = [f"example.{top}" for top in get_top_level_domains() if top != "ARPA"]

    assert len(domains) > 1000
    assert [_ascii_domain(_validated(f"a@{domain}")) for domain in domains] == [*map(_plain_domain, domains)]


def test_the_special_use_names_are_those_of_the_validator() -> None:
    """A release with another list needs another list here."""
    assert sorted(_SPECIAL_USE_NAMES) == sorted(email_validator.SPECIAL_USE_DOMAIN_NAMES)


PROGRAM = """
import sys
from registration_persistence.domain.email import normalise_email
assert normalise_email(" Ada.Lovelace+news@Mail-1.Example.COM ").key == "ada.lovelace+news@mail-1.example.com"
print(*sorted({"dns", "email_validator", "idna"} & set(sys.modules)))
normalise_email("ada@b\\u00fccher.example")
print(*sorted({"dns", "email_validator", "idna"} & set(sys.modules)))
"""


def test_a_plain_address_does_not_load_the_validator() -> None:
    """Only an address that is not plain does; no address loads a resolver."""
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)

    assert run.stdout.splitlines() == ["", "email_validator idna"]
