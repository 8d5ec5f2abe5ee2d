"""Keys of a session's `info` that the database sets and the repositories read."""

EARLIER_TRIES = "registration_persistence.earlier_tries"
"""The `info` of the sessions of the earlier tries of the same unit of work, oldest first; `Database.run` sets it."""
