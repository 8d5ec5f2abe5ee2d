"""Fixtures of the resilience tests."""

from pathlib import Path

import pytest


@pytest.fixture
def handler(tmp_path: Path) -> str:
    """A Lambda handler that obeys `raise`, `exit`, `sleep`, `variables` and `read`, and returns any other event."""
    file = tmp_path / "handler.py"
    file.write_text(_HANDLER)
    return f"{file}:handle"


_HANDLER = """
import os
import sys
import time
from registration_persistence import DatabaseSettings
from registration_persistence.errors import TooManyConnections
from registration_persistence.database.credentials.rotation_bridge import RotationBridge


def handle(event, context):
    match event:
        case "raise":
            raise TooManyConnections("no slot")
        case "exit":
            sys.exit("the handler exits")
        case "sleep":
            time.sleep(30)
        case "variables":
            return dict(os.environ)
        case "read":
            settings = DatabaseSettings.from_env()
            return RotationBridge(settings.secret_arn, region=settings.secret_region).current().username
    print("event", event)
    return {"event": event, "remaining": context.get_remaining_time_in_millis(), "name": context.function_name}
"""
