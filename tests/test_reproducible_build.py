"""The same commit has the same wheel and sdist, on each machine and at each time."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).parents[1]
Done: TypeAlias = subprocess.CompletedProcess[str]

# The part of the checkout that a build needs.
SOURCES = (
    "src",
    "migrations",
    "alembic.ini",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "hatch_build.py",
    "pyproject.toml",
)
BUILD = ("release/build_distributions.py",)


def copy_of_the_sources(folder: Path, names: tuple[str, ...]) -> Path:
    """Copy the sources into *folder*, in the order of the names."""
    for name in (*names, *BUILD, ".gitignore"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def build_in(
    folder: Path, *, umask: int = 0o022, **environ: str
) -> tuple[subprocess.CompletedProcess[str], list[bytes]]:
    """Build the distributions in *folder* as `make dist` does; return the process and the bytes of the files."""
    done = subprocess.run(
        [sys.executable, "-I", *BUILD],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "GIT_CEILING_DIRECTORIES": str(folder.parent), **environ},
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )
    return done, [file.read_bytes() for file in sorted(folder.glob("dist/*"))]


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    """Folder, owner, permissions, age and order of the files, time zone, language and umask change nothing."""
    sources = copy_of_the_sources(tmp_path / "one", SOURCES)
    others = copy_of_the_sources(tmp_path / "a long name" / "of another folder", SOURCES[::-1])
    for file in others.rglob("*"):
        file.chmod(file.stat().st_mode & 0o700)
        os.utime(file, (1, 1))
        if os.getuid() == 0:
            os.chown(file, 1234, 1234)
    strange = {"TZ": "Asia/Kathmandu", "LC_ALL": "de_DE.UTF-8", "PYTHONHASHSEED": "7", "HATCH_BUILD_HOOKS_ONLY": "true"}

    done, first = build_in(sources, SOURCE_DATE_EPOCH="1795954153")
    _, second = build_in(others, umask=0o077, SOURCE_DATE_EPOCH="1795954153", **strange)
    _, later = build_in(sources, SOURCE_DATE_EPOCH="1795954155")

    assert done.returncode == 0, done.stderr
    assert re.sub("[0-9a-f]{64}", "SHA256", done.stdout).splitlines() == [
        "SHA256  registration_persistence-0.1.0.tar.gz",
        "SHA256  registration_persistence-0.1.0-py3-none-any.whl",
    ]
    assert len(first) == 2
    assert first == second
    assert not set(first) & set(later)


def test_a_build_that_nobody_could_repeat_fails(tmp_path: Path) -> None:
    """Without the time of the commit, or with a file that only the checkout has, dist/ stays as it was."""
    sources = copy_of_the_sources(tmp_path / "checkout", SOURCES)
    (sources / "dist").mkdir()
    (sources / "dist" / "old.whl").touch()

    without_time, _ = build_in(sources)
    project = sources / "pyproject.toml"
    project.write_text(project.read_text().replace('include = ["/src",', 'exclude = ["py.typed"]\ninclude = ["/src",'))
    without_types, left = build_in(sources, SOURCE_DATE_EPOCH="1")

    assert (without_time.returncode, without_types.returncode) == (1, 1)
    assert without_time.stderr.startswith("this folder has no commit: set SOURCE_DATE_EPOCH")
    assert without_types.stderr.startswith("the wheel of the sdist differs from that of the checkout")
    assert left == [b""]
