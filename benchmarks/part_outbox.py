"""Part `outbox`: the delivery of messages to a function that does nothing, beside procrastinate and pgqueuer."""

from importlib.util import find_spec

import outbox
from measurements import Measurement, skip

from registration_persistence.sandbox import LocalPostgres, embedded_binaries

_PEERS = ("pgqueuer", "procrastinate")


def measure(runs: int, *, messages: int) -> tuple[list[Measurement], list[str]]:
    """Return the measurements, and the servers."""
    for name in _PEERS:
        if not find_spec(name):
            skip(f"{name}: it is not installed")
    rates = Measurement(
        "rate", f"Delivery of {messages:,} messages", "messages/s", exact=False, better="higher", base=_PEERS[0]
    )
    transactions = Measurement(
        "transactions", f"Transactions of the worker for {messages:,} messages", "transactions", exact=True
    )
    with LocalPostgres(embedded_binaries()) as local:
        for name, deliveries in outbox.measure(local.server, messages, runs).items():
            title = name if name in _PEERS else f"this package, {name}"
            for delivery in deliveries:
                rates.add(title, delivery.rate)
                if name not in _PEERS:  # theirs include the creation of the tables
                    transactions.add(title, delivery.transactions)
    return [rates, transactions], ["PostgreSQL 18 without TLS"]
