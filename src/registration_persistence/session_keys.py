"""Keys of a session's `info` that the database sets and the repositories read."""

KEPT = "registration_persistence.kept"
"""A COMMIT, or a statement in autocommit, of this session was kept, so a repetition would do that work twice."""

EARLIER_TRIES = "registration_persistence.earlier_tries"
"""The `info` of the sessions of the earlier tries of the same unit of work, oldest first; `Database.run` sets it."""
