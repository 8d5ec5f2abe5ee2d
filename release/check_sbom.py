"""Checks the SBOM in build/ with the schema of CycloneDX."""

import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

SBOM = Path(__file__).parents[1] / "build" / "registration_persistence.cdx.json"


def main() -> int:
    """Print that the SBOM is valid and return 0; if it is missing or invalid, print the reason and return 1."""
    try:
        text = SBOM.read_text(encoding="utf-8")
    except FileNotFoundError:
        sys.stderr.write(f"{SBOM.name} is not in build/: run `make sbom`\n")
        return 1
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if problem is not None:
        sys.stderr.write(f"{SBOM.name}: {problem}\n")
        return 1
    sys.stdout.write(f"{SBOM.name} is valid\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
