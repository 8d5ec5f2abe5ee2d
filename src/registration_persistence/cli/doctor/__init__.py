"""`doctor`: the checks of an operator, one line each, from the environment to the outbox."""
