"""Builds the sdist and the wheel reproducibly: the same commit has the same bytes, on each machine and at each time.

The sdist is built from the checkout, and the wheel from the sdist. A wheel that is built from the checkout must be the
same, so that the sdist contains what was tested.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]


class BuildFailed(Exception):
    """The distributions cannot be built; the message states the reason and the fix."""


def commit_time() -> str:
    """Return the time of the commit, in seconds since 1970, which is the time of each file in the distributions."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return given
    found = _git("log", "-1", "--format=%ct")
    if not found:
        raise BuildFailed("this folder has no commit: set SOURCE_DATE_EPOCH to the time of the sources, in seconds")
    return found


def build(folder: Path) -> list[Path]:
    """Build the sdist and the wheel, replace those in *folder*, and return their paths."""
    if _git("status", "--porcelain", "--untracked-files=all", "src", "migrations", "pyproject.toml", "hatch_build.py"):
        sys.stderr.write("the checkout differs from its commit, so nobody else can build the same distributions\n")
    epoch = commit_time()
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as temporary:
        work = Path(temporary)
        sdist = _hatchling("sdist", ROOT, work / "sdist", epoch)
        with tarfile.open(sdist) as archive:
            archive.extractall(work / "unpacked", filter="data")
        (unpacked,) = (work / "unpacked").iterdir()
        wheel = _hatchling("wheel", unpacked, work / "wheel", epoch)
        if wheel.read_bytes() != _hatchling("wheel", ROOT, work / "direct", epoch).read_bytes():
            raise BuildFailed(
                "the wheel of the sdist differs from that of the checkout: see `include` in pyproject.toml"
            )
        for old in (*folder.glob("*.whl"), *folder.glob("*.tar.gz")):
            old.unlink()
        return [_copy(built, folder) for built in (sdist, wheel)]


def _hatchling(target: str, source: Path, folder: Path, epoch: str) -> Path:
    """Build *target* from *source* into the empty *folder*, without the variables of the caller."""
    done = subprocess.run(  # noqa: S603 the interpreter of this process
        [sys.executable, "-I", "-m", "hatchling", "build", "-t", target, "-d", str(folder)],
        cwd=source,
        env={"PATH": os.defpath, "SOURCE_DATE_EPOCH": epoch},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildFailed(f"hatchling cannot build the {target}: {done.stderr.strip() or done.stdout.strip()}")
    (built,) = folder.iterdir()
    return built


def _copy(built: Path, folder: Path) -> Path:
    copy = folder / built.name
    copy.write_bytes(built.read_bytes())
    return copy


def _git(*arguments: str) -> str:
    """Return the output of git in the checkout, or nothing if it is no repository or git is missing."""
    try:
        done = subprocess.run(  # noqa: S603 fixed arguments
            ["git", *arguments],  # noqa: S607 git is where the user has installed it
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def main() -> int:
    """Build into a folder, print the hash of each file, and return 0; if it fails, print the reason and return 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "dist", help="defaults to dist/ of the checkout")
    try:
        built = build(parser.parse_args().folder)
    except BuildFailed as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    for file in built:
        sys.stdout.write(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
