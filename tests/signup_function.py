"""The handler of the example function, which also writes each mail to the file that MAILS names, for its tests."""

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "registration_service" / "function"))

import signup_service
from handler import handle

__all__ = ["handle"]


def _write(address: str, **mail: Any) -> None:
    with Path(os.environ["MAILS"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"address": address, **mail}) + "\n")


signup_service.send_mail = _write
