"""`registration_infra.layer`: the layer that `make infra-build` has built."""

import re
from importlib.metadata import distributions
from pathlib import Path

import pytest
from app import build_app
from registration_infra import InfraConfigError, layer
from templates import config_of

PYTHON = layer.LAYER / "python"
# In the header of an ELF file: the magic number, the machine, and the offset of the machine in bytes.
ELF, AARCH64, MACHINE_OFFSET = b"\x7fELF", 0xB7, 18
# The limit of a function with its layers, unpacked: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MAX_MIB = 250


def test_compiled_code_is_for_python_on_arm() -> None:
    """Every shared library is for AArch64, and every extension module for Python 3.13."""
    libraries = [path for path in PYTHON.rglob("*.so*") if path.is_file()]

    assert {"psycopg_binary", "sqlalchemy"} <= {path.relative_to(PYTHON).parts[0] for path in libraries}
    for library in libraries:
        header = library.read_bytes()[: MACHINE_OFFSET + 2]
        assert header.startswith(ELF)
        assert header[MACHINE_OFFSET] == AARCH64, library
        name = library.name
        assert "cpython-313-aarch64" in name or "abi3" in name or "cpython" not in name, name


def test_layer_contains_the_package_and_its_migrations() -> None:
    """The package is that of this checkout, its dependencies have the locked versions, no file has a local path."""
    package = PYTHON / "registration_persistence"
    root = Path(__file__).parents[3]

    assert {path.name for path in (root / "migrations/versions").glob("*.py")} == {
        path.name for path in (package / "migrations/versions").glob("*.py")
    }
    for module in (root / "src/registration_persistence").rglob("*.py"):
        installed_module = package / module.relative_to(root / "src/registration_persistence")
        assert module.read_bytes() == installed_module.read_bytes(), module
    locked = dict(re.findall(r"^([\w-]+)==(\S+)", (root / "requirements/runtime.txt").read_text(), re.MULTILINE))
    installed = {one.name.lower().replace("_", "-"): one.version for one in distributions(path=[str(PYTHON)])}
    assert installed.pop("registration-persistence")
    assert installed.items() <= locked.items()
    assert {"alembic", "boto3", "psycopg", "psycopg-binary", "sqlalchemy", "uuid-utils"} <= installed.keys()
    local_path = str(root).encode()
    assert not [path for path in PYTHON.rglob("*") if path.is_file() and local_path in path.read_bytes()]
    assert not (PYTHON / "bin").exists()


def test_layer_is_small_enough() -> None:
    """The layer takes less than half of the limit."""
    size = sum(path.stat().st_size for path in PYTHON.rglob("*") if path.is_file()) / 1024**2

    assert size < MAX_MIB / 2


def test_missing_layer_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error names the command that builds the layer."""
    monkeypatch.setattr(layer, "LAYER", tmp_path)

    with pytest.raises(InfraConfigError, match="it does not exist: run make infra-build first"):
        build_app(config_of("dev"), require_layer=True, run_checks=False)
