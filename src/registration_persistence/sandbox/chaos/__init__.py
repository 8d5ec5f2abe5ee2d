"""The command `chaos`: sign-ups under load while faults happen."""
