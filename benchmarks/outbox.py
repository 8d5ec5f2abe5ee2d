"""Counts the statements of an `OutboxWorker` that delivers many messages, by the way in which it acknowledges them.

All ways deliver the same number of messages in one run, on one server, in turn. The rates depend on the machine; their
ratio and the number of statements do not.

Run it with `python benchmarks/outbox.py`, or with `--messages 20000`.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from typing import Any

from local_database import create_migrated_database
from sqlalchemy import event, text

from registration_persistence import Database, ImportRow, OutboxWorker, bulk_import
from registration_persistence.sandbox import LocalPostgres, embedded_binaries

_BATCH = 100
_WAYS: Mapping[str, Mapping[str, Any]] = {
    "each message": {"batch": _BATCH},
    "each batch": {"batch": _BATCH, "acknowledge": "batch"},
    "function takes batches": {"batch": _BATCH, "takes_batch": True},
}


def deliver_all(database: Database, messages: int, options: Mapping[str, Any]) -> tuple[int, float]:
    """Deliver *messages* messages, and return the number of statements and the seconds."""
    with database.session() as session:
        session.execute(text("TRUNCATE outbox"))
        bulk_import(session, [ImportRow("ada@example.com", "pending")] * messages, announce=True)
    statements = 0

    def count(*_arguments: object) -> None:
        nonlocal statements
        statements += 1

    worker = OutboxWorker(database, lambda _messages: None, **options)
    event.listen(database.engine, "before_cursor_execute", count)
    begin = time.perf_counter()
    while worker.run_once():
        pass
    seconds = time.perf_counter() - begin
    event.remove(database.engine, "before_cursor_execute", count)
    if worker.counts["delivered"] != messages:
        raise SystemExit(f"{worker.counts['delivered']} messages were delivered: expected {messages}")
    return statements, seconds


def print_results(measure: Callable[[Mapping[str, Any]], tuple[int, float]], messages: int) -> None:
    """Print a line for each way."""
    print(f"{messages} messages, acknowledged    statements   messages per second   times the first line")
    slowest = 0.0
    for name, options in _WAYS.items():
        statements, seconds = measure(options)
        slowest = slowest or seconds
        print(f"{name:32} {statements:10} {messages / seconds:21.0f} {slowest / seconds:22.1f}")


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=5000, help="messages for each way (default: 5000)")
    messages = parser.parse_args().messages
    with LocalPostgres(embedded_binaries()) as server:
        database = Database(create_migrated_database(server.server))
        print_results(lambda options: deliver_all(database, messages, options), messages)
        database.dispose()


if __name__ == "__main__":
    main()
