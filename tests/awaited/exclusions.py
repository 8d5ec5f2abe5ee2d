"""The tests that do not run on the asynchronous side, and why."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Excluded:
    """Why a test fails on the asynchronous side.

    Args:
        reason: The reason.
        ends: Whether the test ends; it is then run, to find out whether it still fails. Defaults to true.
    """

    reason: str
    ends: bool = True


EXCLUDED: Mapping[str, Excluded] = {}
"""By `module::test`."""

TASKS: frozenset[str] = frozenset(
    {
        "races",
        "test_bulk_import",
        "test_commit_resolution",
        "test_deadlines",
        "test_driver_deadlines",
        "test_error_translation",
        "test_failover",
        "test_forgotten_statements",
        "test_frozen_time",
        "test_get_db",
        "test_iam",
        "test_lost_connections",
        "test_outbox_acknowledgements",
        "test_outbox_batches",
        "test_outbox_pauses",
        "test_outbox_worker",
        "test_outbox_worker_runs",
        "test_own_tables",
        "test_partitions",
        "test_pool",
        "test_pooler.ThreadPoolExecutor",
        "test_prepared_statements",
        "test_privacy_repository",
        "test_readers",
        "test_retention",
        "test_rotation",
        "test_run",
        "test_secrets_manager",
        "test_session",
        "test_single_calls",
        "test_terminated_sign_ups",
        "test_verify_by_token",
        "test_wrong_attempts",
    }
)
"""The modules whose threads use a `Database`, so that they become tasks; `module.Class` for one class of threads.

The threads of the other modules are servers and faults, and remain threads.
"""
