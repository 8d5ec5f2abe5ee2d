"""Compares the ways in which an `OutboxWorker` acknowledges its messages with each other and with other queues.

All ways deliver the same number of messages, in turn, on one server, to a function that does nothing. The rates depend
on the machine; their ratios and the number of transactions do not. pgqueuer and procrastinate are compared if they are
installed, as in the environment of `make bench`.

Run it with `python benchmarks/outbox.py`, or with `--messages 20000 --rounds 5`.
"""

import argparse
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from statistics import median
from threading import Event
from typing import Any

import psycopg
from local_database import create_migrated_database
from outbox_peers import PEERS, SHARES, Peer, Stopwatch
from sqlalchemy import text

from registration_persistence import Database, DatabaseSettings, ImportRow, OutboxWorker, bulk_import
from registration_persistence.sandbox import LocalPostgres, PostgresServer, embedded_binaries, wait_until

BATCH = 100

# Each way: the options of the worker, and whether `run` is called once, as in a container, or `run_once` repeatedly,
# as in a Lambda function.
_WAYS: Mapping[str, tuple[Mapping[str, Any], bool]] = {
    "each message": ({}, True),
    "batches": ({"acknowledge": "batch"}, True),
    "batches, run_once": ({"acknowledge": "batch"}, False),
    "batches, takes_batch": ({"takes_batch": True}, True),
}


@dataclass(frozen=True)
class Delivery:
    """The delivery of the messages in one way.

    Attributes:
        messages: The number of messages.
        transactions: The number of transactions of the worker, each of one statement; for other queues also those
            that prepare the database and store the messages.
        seconds: The time from the first to the last message.
    """

    messages: int
    transactions: int
    seconds: float

    @property
    def rate(self) -> float:
        """The messages per second."""
        return self.messages / self.seconds


def deliver_with_worker(
    settings: DatabaseSettings, server: PostgresServer, messages: int, options: Mapping[str, Any], *, runs: bool
) -> Delivery:
    """Store messages, and deliver them with an `OutboxWorker`.

    Args:
        settings: A migrated database.
        server: Its server.
        messages: The number of messages.
        options: Arguments of the worker.
        runs: Whether to call `run` once; otherwise `run_once` is called until nothing is left.
    """
    database = Database(settings)
    with database.session() as session:
        session.execute(text("TRUNCATE outbox"))
        bulk_import(session, [ImportRow("ada@example.com", "pending")] * messages, announce=True)
    database.dispose()
    before = transactions_of(server, settings.name)
    watch, stop = Stopwatch(), Event()

    def deliver(given: Any) -> None:
        for _message in given if isinstance(given, tuple) else (given,):
            watch.note()
        if watch.calls >= messages:
            stop.set()

    worker = OutboxWorker(database, deliver, batch=BATCH, **options)
    if runs:
        worker.run(stop)
    else:
        while worker.run_once():
            pass
    database.dispose()
    if worker.counts != {"delivered": messages}:
        raise SystemExit(f"the counts are {dict(worker.counts)}: expected {messages} delivered messages")
    return Delivery(messages, transactions_of(server, settings.name) - before, watch.seconds(messages))


def deliver_with_peer(peer: Peer, server: PostgresServer, messages: int) -> Delivery:
    """Store and deliver messages with a queue of another project, in a database of its own."""
    name = f"peer_{secrets.token_hex(4)}"
    server.create_database(name)
    conninfo = psycopg.conninfo.make_conninfo(
        host=server.host, port=server.port, user=server.user, password=server.password, dbname=name
    )
    seconds = peer(conninfo, messages, BATCH)
    transactions = transactions_of(server, name)
    server.drop_database(name)
    return Delivery(messages, transactions, seconds)


def transactions_of(server: PostgresServer, name: str) -> int:
    """Return the number of transactions in a database, after all of its sessions have ended."""
    counted = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s"
    with server.connect("postgres") as connection:

        def is_idle() -> bool:
            found = connection.execute("SELECT FROM pg_stat_activity WHERE datname = %s", [name])
            return not found.fetchall()

        wait_until(is_idle, "the sessions have ended")
        time.sleep(0.2)  # a session reports its last transactions at its end
        (transactions,) = connection.execute(counted, [name]).fetchone() or (0,)
    return int(transactions)


def measure(server: PostgresServer, messages: int, rounds: int) -> dict[str, list[Delivery]]:
    """Deliver messages in each way, in turn, *rounds* times, and return the deliveries of each way.

    Slow queues get a share of the messages.
    """
    settings = create_migrated_database(server)
    ways: dict[str, Callable[[], Delivery]] = {
        name: partial(deliver_with_worker, settings, server, messages, options, runs=runs)
        for name, (options, runs) in _WAYS.items()
    }
    ways |= {name: partial(deliver_with_peer, peer, server, messages // SHARES[name]) for name, peer in PEERS.items()}
    measured: dict[str, list[Delivery]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, deliver in ways.items():
            measured[name].append(deliver())
    return measured


def print_results(measured: Mapping[str, list[Delivery]], messages: int) -> None:
    """Print a line for each way."""
    references = [name for name in ("each message", "pgqueuer") if name in measured]
    headings = "".join(f"{f'times {name}':>20}" for name in references)
    print(f"{messages} messages, batch {BATCH:<6} per transaction  per second (median, range)  {headings}")
    for name, deliveries in measured.items():
        rates = [delivery.rate for delivery in deliveries]
        span = f"{median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})"
        ratios = [
            median(own.rate / base.rate for base, own in zip(measured[reference], deliveries, strict=True))
            for reference in references
        ]
        columns = "".join(f"{ratio:20.2f}" for ratio in ratios)
        share = median(delivery.messages / delivery.transactions for delivery in deliveries)
        print(f"{name:28} {share:15.1f}  {span:28}{columns}")


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=5000, help="messages for each way (default: 5000)")
    parser.add_argument("--rounds", type=int, default=3, help="deliveries in each way (default: 3)")
    options = parser.parse_args()
    with suppress(KeyboardInterrupt), LocalPostgres(embedded_binaries()) as server:
        print_results(measure(server.server, options.messages, options.rounds), options.messages)


if __name__ == "__main__":
    main()
