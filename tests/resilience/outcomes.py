"""What the load came to, and what the database holds of it."""

from collections import Counter
from pathlib import Path
from typing import Any

from registration_persistence.sandbox import LambdaProcess
from registration_persistence.testing import RegistrationEnvironment

HANDLERS = Path(__file__).with_name("handlers.py")


def handler(name: str) -> str:
    """The handler of this name, for `lambda_process`."""
    return f"{HANDLERS}:{name}"


def rows_by_key(environment: RegistrationEnvironment) -> Counter[str]:
    """How many registrations there are for each idempotency key."""
    with environment.connect() as connection:
        return Counter(email.partition("@")[0] for (email,) in connection.execute("SELECT email FROM registrations"))


def assert_exact(environment: RegistrationEnvironment, results: list[dict[str, Any]]) -> None:
    """Every sign-up that was acknowledged is there, none is there twice, and none that failed for certain is there."""
    rows = rows_by_key(environment)
    kept = {key for result in results for key in result["kept"]}
    unknown = {key for result in results for key in result["unknown"]}
    assert kept, "the load did nothing"
    assert kept <= set(rows), "lost"
    assert max(rows.values()) == 1, "doubled"
    assert set(rows) <= kept | unknown, "kept, although the error said that nothing was"


def failures(results: list[dict[str, Any]]) -> list[Any]:
    """What failed, in all of *results*."""
    return [failure for result in results for failure in [*result["failed"], *result["unknown"]]]


def run_all(processes: list[LambdaProcess]) -> list[dict[str, Any]]:
    """The results of what every process was started with."""
    return [process.result() for process in processes]
