"""Sign-ups and other single repository calls of this package, as units of work."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Unit = Callable[[int], object]


def register_unit(database: Any) -> Unit:
    """Return a sign-up with two consents."""
    from registration_persistence import Consent, RegistrationRepository

    prefix = secrets.token_hex(4)
    consents = [Consent("terms", "2026-01"), Consent("newsletter", "2026-01", granted=False)]

    def unit(number: int) -> object:
        address = f"{prefix}.{number}@example.com"
        return database.run(
            lambda on: RegistrationRepository(on).register(address, consents=consents, idempotency_key=address),
            single=True,
        )

    return unit


def made_sign_ups(database: Any, number: int) -> tuple[str, list[Any]]:
    """Return the statement of a sign-up and the parameters of *number* sign-ups, none of which is stored."""
    unit = register_unit(database)
    with _sent_statements(database) as sent:
        for position in range(number):
            unit(position)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE registrations, registration_events, outbox CASCADE")
    statement = sent[0][0]
    if {statement} != {text for text, _ in sent} or len(sent) != number:
        raise RuntimeError(f"{len(sent)} statements were sent: expected the same one {number} times")
    return statement, [parameters for _, parameters in sent]


@contextmanager
def _sent_statements(database: Any) -> Iterator[list[tuple[str, Any]]]:
    from sqlalchemy import event

    sent: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        sent.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
