"""Holding the connection slots of a server."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg

from registration_persistence.sandbox.server import PostgresServer
from registration_persistence.sandbox.waiting import wait_until

# Texts of the server's error 53300; psycopg has no SQLSTATE for a failed attempt to connect.
_FULL = ("remaining connection slots", "too many clients")

_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"


@contextmanager
def hold_slots(server: PostgresServer, *, leave: int) -> Iterator[int]:
    """Hold every connection slot that is free for ordinary roles; yield the number of held slots.

    Args:
        server: The server, with a login that may create roles.
        leave: The number of slots that stay free, 0 or more.
    """
    role, password = f"slots_{secrets.token_hex(4)}", secrets.token_urlsafe(16)
    server.create_login(role, password)
    held: list[psycopg.Connection] = []
    with server.connect() as observer:
        try:
            _connect_until_full(replace(server, user=role, password=password), held)
            kept = max(0, len(held) - leave)
            for connection in held[kept:]:
                connection.close()
            _wait_for_sessions(observer, role, kept)
            yield kept
        finally:
            for connection in held:
                connection.close()
            _wait_for_sessions(observer, role, 0)
            observer.execute(f"DROP ROLE {role}")


def _connect_until_full(server: PostgresServer, held: list[psycopg.Connection]) -> None:
    while True:
        try:
            held.append(server.connect())
        except psycopg.OperationalError as error:
            if not any(words in str(error) for words in _FULL):
                raise
            return


def _wait_for_sessions(observer: psycopg.Connection, role: str, expected: int) -> None:
    wait_until(lambda: observer.execute(_SESSIONS, [role]).fetchone() == (expected,), f"{role} has {expected} sessions")
