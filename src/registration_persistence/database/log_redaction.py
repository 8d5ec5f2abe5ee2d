"""`redact_logs`: keeps passwords, tokens and rows out of the DEBUG logs of botocore and SQLAlchemy."""

import logging

ENGINE_LOGGING_NAME = "registration_persistence"
"""The `logging_name` of our engines; SQLAlchemy appends it to the name of the logger."""

# Substrings of confidential records, for each logger: botocore logs every response and signature, SQLAlchemy every row.
_CONFIDENTIAL = {
    "botocore.parsers": ("SecretString", "SecretBinary"),
    "botocore.auth": ("Signature:\n", "Action=connect&DBUser=", "x-amz-security-token:"),
    "botocore.endpoint": ("X-Amz-Security-Token",),
    f"sqlalchemy.engine.Engine.{ENGINE_LOGGING_NAME}": ("Row (",),
}


class _Redaction(logging.Filter):
    """Drops every record that contains one of *substrings*."""

    def __init__(self, *substrings: str) -> None:
        super().__init__()
        self._substrings = substrings

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return not any(substring in message for substring in self._substrings)


_filters = {name: _Redaction(*substrings) for name, substrings in _CONFIDENTIAL.items()}


def redact_logs() -> None:
    """Install the filters that drop log records with a secret, a token or a row; a second call changes nothing."""
    for name, redaction in _filters.items():
        logging.getLogger(name).addFilter(redaction)
