"""The outcomes of the load, and the comparison with the rows of the database."""

from collections import Counter
from pathlib import Path
from typing import Any

from registration_persistence.sandbox import LambdaProcess
from registration_persistence.testing import RegistrationEnvironment

HANDLERS = Path(__file__).with_name("handlers.py")


def handler(name: str) -> str:
    """Return the handler of this name, for `lambda_process`."""
    return f"{HANDLERS}:{name}"


def rows_by_key(environment: RegistrationEnvironment) -> Counter[str]:
    """Return the number of registrations for each idempotency key."""
    with environment.connect() as connection:
        return Counter(email.partition("@")[0] for (email,) in connection.execute("SELECT email FROM registrations"))


def assert_exact(environment: RegistrationEnvironment, results: list[dict[str, Any]]) -> None:
    """Assert that every acknowledged sign-up is stored once, and that no sign-up that failed is stored."""
    rows = rows_by_key(environment)
    kept = {key for result in results for key in result["kept"]}
    unknown = {key for result in results for key in result["unknown"]}
    assert kept, "the load did nothing"
    assert kept <= set(rows), "an acknowledged sign-up was lost"
    assert max(rows.values()) == 1, "a sign-up was duplicated"
    assert set(rows) <= kept | unknown, "a sign-up was kept although its error said that nothing was kept"


def failures(results: list[dict[str, Any]]) -> list[Any]:
    """Return the failed and the unknown requests of all *results*."""
    return [failure for result in results for failure in [*result["failed"], *result["unknown"]]]


def run_all(processes: list[LambdaProcess]) -> list[dict[str, Any]]:
    """Wait for the invocation of every process, and return the results."""
    return [process.result() for process in processes]
