"""Sources of the user name and password that a connection is opened with."""
