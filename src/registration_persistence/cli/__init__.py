"""The command `registration-persistence`."""

from registration_persistence.cli.main import main

__all__ = ["main"]
