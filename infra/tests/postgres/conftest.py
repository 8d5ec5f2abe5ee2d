"""The fixtures of `migrate_environment.py`."""

from postgres.migrate_environment import cluster, handle

__all__ = ["cluster", "handle"]
