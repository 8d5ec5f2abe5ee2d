"""Keeps passwords and rows out of what the libraries below log at DEBUG."""

import logging

ENGINE_LOGGING_NAME = "registration_persistence"

# Each logger, and what a record must not mention: botocore logs every response, SQLAlchemy every row.
_CONFIDENTIAL = {
    "botocore.parsers": ("SecretString", "SecretBinary"),
    f"sqlalchemy.engine.Engine.{ENGINE_LOGGING_NAME}": ("Row (",),
}


class _Redaction(logging.Filter):
    def __init__(self, *markers: str) -> None:
        super().__init__()
        self._markers = markers

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return not any(marker in message for marker in self._markers)


_filters = {name: _Redaction(*markers) for name, markers in _CONFIDENTIAL.items()}


def redact_logs() -> None:
    """Drop the records that would quote a secret or a row; calling it again changes nothing."""
    for name, redaction in _filters.items():
        logging.getLogger(name).addFilter(redaction)
