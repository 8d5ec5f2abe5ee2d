"""The packages of a locked list in `requirements/` or `infra/`, as uv writes it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PIN = re.compile(r"(?P<name>[a-z0-9.-]+)==(?P<version>[^\s;]+)(?: ; (?P<marker>.+?))?(?: \\)?")
_HASH = re.compile(r"    --hash=sha256:([0-9a-f]{64})(?: \\)?")
_VIA = re.compile(r"    #(?: via)? +(?!via$)(.+)")


@dataclass(frozen=True, order=True)
class Locked:
    """A package of a locked list.

    Args:
        name: The normal form of its name.
        version: Its version.
        marker: The environments that need it. Defaults to the empty text: all of them.
        hashes: The SHA-256 of each of its files. Defaults to none.
        dependents: The names of the packages that need it, or `ROOT_NAME` for this one. Defaults to none.
    """

    name: str
    version: str
    marker: str = ""
    hashes: list[str] = field(default_factory=list)
    dependents: list[str] = field(default_factory=list)


def lists() -> Iterator[Path]:
    """Yield every locked list of Python packages."""
    yield from sorted((*(ROOT / "requirements").glob("*.txt"), *(ROOT / "infra").glob("requirements*.txt")))


def read(path: Path) -> list[Locked]:
    """Return the packages of the list *path*.

    Raises:
        ValueError: A line has an unknown form.
    """
    found: list[Locked] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if pin := _PIN.fullmatch(line):
            found.append(Locked(pin["name"], pin["version"], pin["marker"] or ""))
        elif sha256 := _HASH.fullmatch(line):
            found[-1].hashes.append(sha256[1])
        elif via := _VIA.fullmatch(line):
            found[-1].dependents.append(via[1])
        elif line != "    # via":
            raise ValueError(f"{path}: {line!r} is neither a package nor its hash nor its dependent")
    return found
