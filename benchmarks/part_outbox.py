"""Part `outbox`: the delivery of messages to a function that does nothing, beside procrastinate and pgqueuer."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

from local_database import create_migrated_database
from measurements import Measurement, skip

from registration_persistence.sandbox import LocalPostgres, embedded_binaries

_WAYS: Mapping[str, Mapping[str, Any]] = {
    "this package, acknowledged one by one": {},
    "this package, acknowledged in batches": {"acknowledge": "batch"},
    "this package, function takes batches": {"takes_batch": True},
}
BASE = "pgqueuer"


def measure(runs: int, *, messages: int) -> tuple[list[Measurement], list[str]]:
    """Return the measurements, and the version of the server."""
    benchmark: Any = import_module("outbox")
    if not hasattr(benchmark, "deliver_with_worker"):
        skip("the outbox: this version of benchmarks/outbox.py has no deliver_with_worker")
        return [], []
    rates = Measurement(
        "rate", f"Delivery of {messages:,} messages, batch 100", "messages/s", exact=False, better="higher", base=BASE
    )
    transactions = Measurement(
        "transactions", f"Transactions for {messages:,} messages", "transactions", exact=True, base=BASE
    )
    with LocalPostgres(embedded_binaries()) as local:
        settings = create_migrated_database(local.server)
        ways: dict[str, Callable[[], Any]] = {
            title: partial(benchmark.deliver_with_worker, settings, local.server, messages, options, runs=True)
            for title, options in _WAYS.items()
        }
        for name, peer in import_module("outbox_peers").PEERS.items():
            ways[name] = partial(benchmark.deliver_with_peer, peer, local.server, messages)
        for name in {"pgqueuer", "procrastinate"} - ways.keys():
            skip(f"{name}: it is not installed")
        for _ in range(runs):
            for title, way in ways.items():
                delivery = way()
                rates.add(title, messages / delivery.seconds)
                transactions.add(title, delivery.transactions)
    return [rates, transactions], ["PostgreSQL 18 without TLS"]
