"""Writes docs/licences.md.

The licences come from the metadata of the packages, which pip reads from the package index. A licence that is not
allowed is an error, and so is a package that states none.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from licence_page import PAGE, locked_packages, npm_packages, write_page
from licence_rules import STATED_ELSEWHERE, is_allowed, licence_of, normal_name
from locked_lists import ROOT

# These have files for Windows only, so pip cannot read their metadata elsewhere.
_WINDOWS = {"pywin32"}


def ask_index(wanted: Iterable[str]) -> dict[str, str]:
    """Return the licence of each package, from the metadata that pip reads without installing anything."""
    with TemporaryDirectory() as folder:
        names, report = Path(folder, "names.txt"), Path(folder, "report.json")
        names.write_text("\n".join(wanted), encoding="utf-8")
        options = ("--dry-run", "--ignore-installed", "--no-deps", "--ignore-requires-python", "--only-binary=:all:")
        subprocess.run(  # noqa: S603 the pip of this interpreter
            [sys.executable, "-m", "pip", "--quiet", "install", *options, "--report", report, "--requirement", names],
            check=True,
        )
        found = [package["metadata"] for package in json.loads(report.read_text(encoding="utf-8"))["install"]]
    return {normal_name(metadata["name"]): licence_of(metadata) for metadata in found}


def main() -> int:
    """Write the page and return 0; print each package without an allowed licence, and return 1 if there is one."""
    sections = locked_packages()
    elsewhere = {name: licence for name, _, licence in npm_packages()}
    elsewhere |= {name: STATED_ELSEWHERE[name] for name in _WINDOWS}
    # If a package has several versions, that of the first section counts.
    locked = {name: versions[0] for section in reversed(sections) for name, versions in sections[section].items()}
    licences = ask_index(f"{name}=={locked[name]}" for name in locked if name not in elsewhere) | elsewhere
    refused = [
        f"{name}: {licences.get(name) or 'no licence'}\n"
        for section, packages in sections.items()
        for name in packages
        if not is_allowed(licences.get(name, ""), section)
    ]
    if refused:
        sys.stderr.write("release/licence_rules.py does not allow the licences of these packages:\n" + "".join(refused))
        return 1
    PAGE.write_text(write_page(sections, licences), encoding="utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
