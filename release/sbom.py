"""Writes the SBOM of the version: each package that it installs, with its files, its licence and its dependencies.

The format is CycloneDX 1.6. The packages are those of requirements/runtime.txt, for each platform and Python at once,
which a tool that looks into one environment cannot list. The same commit gives the same bytes.
"""

import hashlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from build_distributions import BuildFailed, commit_time
from licence_page import licence_names
from locked_lists import ROOT, Locked, read
from notes import project_version

NAME = "registration-persistence"
# As uv writes a direct dependency of this package.
DIRECT = f"{NAME} (pyproject.toml)"
PATH = ROOT / "build" / "registration_persistence.cdx.json"
RUNTIME = ROOT / "requirements" / "runtime.txt"


def bill_of_materials(epoch: int) -> dict[str, Any]:
    """Return the SBOM, with the time *epoch*, in seconds since 1970."""
    packages, licences = read(RUNTIME), licence_names()
    version = project_version(ROOT)
    root = {"type": "library", **_identity(NAME, version), "licenses": [{"expression": "Apache-2.0"}]}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, _purl(NAME, version) + _digest(RUNTIME))}",
        "version": 1,
        "metadata": {"timestamp": datetime.fromtimestamp(epoch, UTC).isoformat(), "component": root},
        "components": [_component(package, licences[package.name]) for package in packages],
        "dependencies": [_dependencies(NAME, version, DIRECT, packages)]
        + [_dependencies(package.name, package.version, package.name, packages) for package in packages],
    }


def _component(package: Locked, licence: str) -> dict[str, Any]:
    component = {
        "type": "library",
        **_identity(package.name, package.version),
        "scope": "required",
        "licenses": [{"expression": licence}],
        "externalReferences": [
            {
                "type": "distribution",
                "url": _purl(package.name, package.version),
                "hashes": [{"alg": "SHA-256", "content": sha256} for sha256 in package.hashes],
            }
        ],
    }
    if package.marker:
        component["properties"] = [{"name": f"{NAME}:marker", "value": package.marker}]
    return component


def _identity(name: str, version: str) -> dict[str, str]:
    purl = _purl(name, version)
    return {"bom-ref": purl, "name": name, "version": version, "purl": purl}


def _purl(name: str, version: str) -> str:
    return f"pkg:pypi/{name}@{version}"


def _dependencies(name: str, version: str, dependent: str, packages: list[Locked]) -> dict[str, Any]:
    """Return the packages that *dependent* needs, under the reference of the package *name*."""
    needed = [_purl(each.name, each.version) for each in packages if dependent in each.dependents]
    return {"ref": _purl(name, version), "dependsOn": needed}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> int:
    """Write the SBOM, print its path and return 0; if the time of the commit is unknown, say so and return 1."""
    try:
        found = bill_of_materials(int(commit_time()))
    except BuildFailed as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(f"{PATH.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
