"""`LambdaLines`: log lines as Lambda's JSON format writes them."""

import json
import logging


class LambdaLines(logging.Handler):
    """Formats each record as Lambda's JSON format does: with the fields that not every record has.

    Attributes:
        lines: The lines so far.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        self._usual = vars(logging.makeLogRecord({})).keys()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line of *record*."""
        fields = {name: value for name, value in vars(record).items() if name not in self._usual}
        line = {"level": record.levelname, "message": record.getMessage(), "logger": record.name, **fields}
        self.lines.append(json.dumps(line))
