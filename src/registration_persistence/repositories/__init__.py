"""The repositories: one SQL statement for each method, in a session that the caller opens."""
