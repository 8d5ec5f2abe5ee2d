"""The error of a rotation."""


class RotationFailed(Exception):
    """A step of a rotation failed; Secrets Manager repeats it. The message contains no password."""
