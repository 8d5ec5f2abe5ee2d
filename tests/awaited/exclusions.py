"""The tests that do not run on the asynchronous side, and why."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Excluded:
    """Why a test fails on the asynchronous side.

    Args:
        reason: The reason.
        is_run: Whether the test is run, to find out whether it still fails; false if it would not end, or would disturb
            the next test. Defaults to true.
    """

    reason: str
    is_run: bool = True


_FORK_WITHOUT_HOOKS = Excluded(
    "the child inherits the running event loop of its parent, and Python does not know of the fork; servers that fork "
    "without its hooks do so before a loop runs",
    is_run=False,
)

_LOOP_OF_ITS_OWN = Excluded(
    "the test runs an event loop of its own, as a service does, and two loops cannot run in one thread", is_run=False
)

_ENDPOINTS_IN_THREADS = Excluded(
    "the framework calls the endpoints in threads of its own, in which nothing can be awaited; endpoints that use "
    "`AsyncDatabase` are asynchronous",
    is_run=False,
)

EXCLUDED: Mapping[str, Excluded] = {
    "test_get_db::test_a_fork_without_hooks_creates_other_ids": _FORK_WITHOUT_HOOKS,
    "test_get_db::test_a_fork_without_hooks_does_not_advance_a_cursor": _FORK_WITHOUT_HOOKS,
    "test_get_db::test_a_fork_without_hooks_inside_a_session_does_not_end_it": _FORK_WITHOUT_HOOKS,
    "test_get_db::test_a_fork_without_hooks_while_another_thread_holds_locks_does_not_hang": _FORK_WITHOUT_HOOKS,
    "test_get_db::test_a_fork_without_pythons_hooks_shares_no_connection": _FORK_WITHOUT_HOOKS,
    **{
        f"test_howto_asyncio::test_{name}": _LOOP_OF_ITS_OWN
        for name in (
            "a_cancellation_is_not_a_roll_back",
            "a_limit",
            "another_loop_has_a_database_of_its_own",
            "mangum_and_powertools_keep_the_connection",
            "the_fastapi_application",
            "the_handlers_of_lambda_keep_the_connection",
            "units_of_work_and_sessions",
        )
    },
    "test_exporters::test_no_request_waits_for_an_exporter": _LOOP_OF_ITS_OWN,
    "test_howtos::test_deliver_the_outbox_with_asyncio": _LOOP_OF_ITS_OWN,
    "test_observed_operations::test_tasks_have_their_own_operations": _LOOP_OF_ITS_OWN,
    "test_observed_operations::test_threads_and_contexts_have_their_own_operations": Excluded(
        "a thread is a task that runs in another context than its waits, in which its round trips are counted",
        is_run=False,
    ),
    "test_other_instrumentation::test_the_spans_of_other_instrumentation_are_children_of_ours[AsyncDatabase]": (
        _LOOP_OF_ITS_OWN
    ),
    "test_kit::test_each_test_has_databases_of_its_own": _LOOP_OF_ITS_OWN,
    **{
        f"test_web_frameworks::test_{name}": _ENDPOINTS_IN_THREADS
        for name in (
            "a_deadline_in_a_dependency_that_is_not_async_is_rejected",
            "a_fastapi_deadline_for_several_endpoints",
            "a_fastapi_dependency",
            "a_fastapi_endpoint_with_run",
            "the_scope_of_a_dependency_decides_about_lost_commits",
        )
    },
    "test_web_frameworks::test_lambda[-handler]": _LOOP_OF_ITS_OWN,
    "test_wrong_attempts::test_a_wrong_code_counts_if_it_is_rolled_back[abandon]": Excluded(
        "garbage collection cannot await, so SQLAlchemy warns of the abandoned session and ends its connection"
    ),
    "test_wrong_attempts::test_a_wrong_code_counts_if_it_is_rolled_back[end_the_thread]": Excluded(
        "the session of a thread ends with the thread, and a task is no thread"
    ),
    "test_iam::test_a_silent_sts_ends_at_the_deadline": Excluded(
        "the wait for the thread that calls STS ends at the deadline, before the call itself times out, so the message "
        "is another one"
    ),
    "test_pool::test_an_exhausted_pool_is_retryable_if_waiting_can_help[settings1-False]": Excluded(
        "with the pool `lambda`, tasks take turns with the one connection, so the message is that of a full pool"
    ),
}
"""By `module::test`, or `module::test[case]` with a part of the id of a case."""

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
        "test_get_db.Barrier",
        "test_get_db.ThreadPoolExecutor",
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
