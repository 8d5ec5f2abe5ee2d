"""Where the user name and the password of a connection come from."""
