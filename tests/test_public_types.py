"""pyright knows the type of each public name of the wheel."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "registration_persistence"


def test_each_public_name_has_a_type(tmp_path: Path) -> None:
    """No public name has a type that is unknown, or that other type checkers could infer differently."""
    build = ["hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run([sys.executable, "-m", *build], cwd=ROOT, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    install = ["pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([sys.executable, "-m", *install, tmp_path / "site", wheel], capture_output=True, check=True)

    # Outside of the checkout, whose configuration of pyright would hide the wheel.
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--verifytypes", PACKAGE, "--ignoreexternal", "--outputjson"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{tmp_path / 'site'}:{sysconfig.get_path('purelib')}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    report = json.loads(done.stdout[done.stdout.index("{") :])["typeCompleteness"]
    unknown = [symbol["name"] for symbol in report["symbols"] if symbol["isExported"] and not symbol["isTypeKnown"]]
    assert [] == unknown
    assert report["completenessScore"] == 1
    assert report["exportedSymbolCounts"]["withKnownType"] > 500
