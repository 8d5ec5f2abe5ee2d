"""The command `demo`: the sign-ups of a CSV file, from the form to the row."""
