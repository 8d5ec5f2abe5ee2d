"""Checks that a tag names the version of pyproject.toml, and prints the section of that version of CHANGELOG.md."""

import argparse
import re
import sys
import tomllib
from datetime import date
from pathlib import Path

# A release, or a pre-release, in the normal form of PyPI.
_VERSION = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?")
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


class NotReady(Exception):
    """The checkout cannot be released with this tag; the message states the reason and the fix."""


def project_version(root: Path) -> str:
    """Return the version in pyproject.toml, which is the only source of it."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def release_notes(root: Path, tag: str) -> str:
    """Return the entries of the version that *tag* names, without their heading.

    Raises:
        NotReady: The tag, the version and the changelog do not agree.
    """
    version = project_version(root)
    if not _VERSION.fullmatch(version):
        raise NotReady(f"the version in pyproject.toml is {version!r}: expected a version like 1.2.3 or 1.2.3rc1")
    if tag != f"v{version}":
        raise NotReady(f"the tag is {tag!r}: expected v{version}, because pyproject.toml has the version {version}")
    sections = _sections((root / "CHANGELOG.md").read_text(encoding="utf-8"))
    if sections and sections[0][0] == "Unreleased":
        if _entries(sections[0][1]):
            raise NotReady(f"CHANGELOG.md has entries under Unreleased: move them to the section of {version}")
        del sections[0]
    if not sections or not sections[0][0].startswith(f"{version} - "):
        raise NotReady(f"CHANGELOG.md does not start with {version}: expected the heading '## {version} - YYYY-MM-DD'")
    heading, text = sections[0]
    _check_date(heading.removeprefix(f"{version} - "), heading)
    if not _entries(text):
        raise NotReady(f"the section {version} of CHANGELOG.md has no entries: describe the changes")
    return text.strip() + "\n"


def _sections(changelog: str) -> list[tuple[str, str]]:
    """Return the heading and the text of each section, the newest first."""
    _, *parts = _HEADING.split(changelog)
    return list(zip(parts[::2], parts[1::2], strict=True))


def _entries(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("- ")]


def _check_date(given: str, heading: str) -> None:
    try:
        if date.fromisoformat(given).isoformat() == given:
            return
    except ValueError:
        pass
    raise NotReady(f"the heading {heading!r} of CHANGELOG.md has no date: expected YYYY-MM-DD after the version")


def main() -> int:
    """Print the notes and return 0; if the tag does not fit, print one line and return 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tag", help="the tag of the release, for example v1.2.3")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="defaults to this checkout")
    options = parser.parse_args()
    try:
        sys.stdout.write(release_notes(options.root, options.tag))
    except NotReady as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
