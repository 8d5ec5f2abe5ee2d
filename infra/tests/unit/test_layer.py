"""The layer that `make infra-build` made: what the functions import, for the machine that they run on."""

import re
from importlib.metadata import distributions
from pathlib import Path

import pytest
from app import build_app
from registration_infra import InfraConfigError, layer
from templates import config_of

PYTHON = layer.LAYER / "python"
# In the header of an ELF file: the magic number, and at octet 18 the machine.
ELF, AARCH64, AT = b"\x7fELF", 0xB7, 18
# MiB that a function and its layers may take unpacked: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LARGEST = 250


def test_compiled_code_is_for_python_on_arm() -> None:
    """Every shared library is one for AArch64, and every extension module one for Python 3.13."""
    libraries = [path for path in PYTHON.rglob("*.so*") if path.is_file()]

    assert {"psycopg_binary", "sqlalchemy"} <= {path.relative_to(PYTHON).parts[0] for path in libraries}
    for library in libraries:
        header = library.read_bytes()[: AT + 2]
        assert header.startswith(ELF)
        assert header[AT] == AARCH64, library
        name = library.name
        assert "cpython-313-aarch64" in name or "abi3" in name or "cpython" not in name, name


def test_the_package_is_there_with_its_migrations() -> None:
    """That of this checkout, with what it needs in the versions of the lock, and without a path of this machine."""
    package = PYTHON / "registration_persistence"
    here = Path(__file__).parents[3]

    assert {path.name for path in (here / "migrations/versions").glob("*.py")} == {
        path.name for path in (package / "migrations/versions").glob("*.py")
    }
    assert (here / "src/registration_persistence/schema/roles.py").read_bytes() == (
        package / "schema/roles.py"
    ).read_bytes()
    locked = dict(re.findall(r"^([\w-]+)==(\S+)", (here / "requirements/runtime.txt").read_text(), re.MULTILINE))
    there = {one.name.lower().replace("_", "-"): one.version for one in distributions(path=[str(PYTHON)])}
    assert there.pop("registration-persistence")
    assert there.items() <= locked.items()
    assert {"alembic", "boto3", "psycopg", "psycopg-binary", "sqlalchemy", "uuid-utils"} <= there.keys()
    here_in_bytes = str(here).encode()
    assert not [path for path in PYTHON.rglob("*") if path.is_file() and here_in_bytes in path.read_bytes()]
    assert not (PYTHON / "bin").exists()


def test_the_layer_is_small_enough() -> None:
    """A third of what Lambda allows."""
    size = sum(path.stat().st_size for path in PYTHON.rglob("*") if path.is_file()) / 1024**2

    assert size < LARGEST / 2


def test_without_the_layer_nothing_is_deployed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error says how to make it."""
    monkeypatch.setattr(layer, "LAYER", tmp_path)

    with pytest.raises(InfraConfigError, match="it is not there: run make infra-build first"):
        build_app(config_of("dev"), built=True, checked=False)
