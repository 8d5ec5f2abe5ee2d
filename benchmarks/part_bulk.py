"""Part `bulk`: an import of many rows, beside `Session.add_all` and COPY without checks."""

import dataclasses
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import bulk_import
from measurements import Measurement
from psycopg import Cursor
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from registration_persistence import DatabaseSettings
from registration_persistence.sandbox import LocalPostgres, PostgresServer, embedded_binaries

PACKAGE, ADD_ALL, COPY = "import", "add_all", "COPY without checks"
_TITLES = {PACKAGE: "this package", ADD_ALL: "SQLAlchemy add_all", COPY: "COPY without checks"}

_STAGING = """
CREATE TEMP TABLE staging (id uuid, address text, profile jsonb, made timestamptz, consent uuid, event uuid)
ON COMMIT DROP
"""
_INSERT_FROM_STAGING = """
WITH made AS (
    INSERT INTO registrations
        (id, email, email_key, email_key_rev, status, profile, created_at, verified_at, activated_at)
    SELECT id, address, address, 1, 'active', profile, made, made, made FROM staging
    ON CONFLICT DO NOTHING RETURNING id
), agreed AS (
    INSERT INTO registration_consents (registration_id, purpose, id, document_version, granted, source, recorded_at)
    SELECT id, 'terms', consent, '2026-01', true, 'import', staging.made FROM staging JOIN made USING (id)
), noted AS (
    INSERT INTO registration_events (registration_id, seq, id, type, data, actor)
    SELECT id, 1, event, 'imported', '{"status": "active", "consents": ["terms"]}', 'system'
    FROM staging JOIN made USING (id)
)
SELECT count(*) FROM made
"""


def with_copy(session: Session, rows: int) -> int:
    """Copy the rows to a temporary table, and insert them from it; the rows are not checked."""
    driver: Any = session.connection().connection.driver_connection
    cursor: Cursor[Any] = driver.cursor()
    cursor.execute(_STAGING)
    with cursor.copy("COPY staging FROM STDIN") as copy:
        for row, _ in bulk_import.people(rows):
            profile = json.dumps(row.profile)
            copy.write_row((uuid7(), row.email, profile, row.registered_at, uuid7(), uuid7()))
    cursor.execute(_INSERT_FROM_STAGING)
    stored: int = cursor.fetchall()[0][0]
    return stored


def run(name: str, rows: int, settings: DatabaseSettings) -> bulk_import.Result:
    """Run one variant in this process, in one transaction."""
    bulk_import.VARIANTS[COPY] = with_copy
    return bulk_import.run(name, rows, settings)


def measure(runs: int, *, rows: int) -> tuple[list[Measurement], list[str]]:
    """Return the measurements, and the versions of the servers."""
    rates = Measurement(
        "rate", f"Import of {rows:,} rows with conflicts", "rows/s", exact=False, better="higher", base=_TITLES[ADD_ALL]
    )
    memory = Measurement("memory", f"Additional memory of an import of {rows:,} rows", "MB", exact=False)
    with LocalPostgres(embedded_binaries()) as local:
        template = bulk_import.create_template(local.server, "template", rows)
        for number in range(runs):
            for name, title in _TITLES.items():
                result = _run_in_a_process(local.server, template, name, rows, number)
                rates.add(title, result.stored / result.seconds)
                if result.megabytes is not None:
                    memory.add(title, result.megabytes)
    return [rates, memory], ["PostgreSQL 18 without TLS"]


def _run_in_a_process(
    server: PostgresServer, template: DatabaseSettings, name: str, rows: int, number: int
) -> bulk_import.Result:
    settings = dataclasses.replace(template, name=f"run_{number}_{list(_TITLES).index(name)}")
    server.create_database(settings.name, template=template.name)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        result = process.submit(run, name, rows, settings).result()
    server.drop_database(settings.name)
    return result
