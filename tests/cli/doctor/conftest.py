"""Fixtures: the database of a service with a login of the least privileges, and the doctor that examines it."""

import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
from examined_service import Examine, Service
from psycopg import sql
from server_versions import local_kind

from registration_persistence import Credentials, Database, DatabaseSettings, schema
from registration_persistence.cli.doctor.check import Check
from registration_persistence.cli.doctor.diagnosis import diagnose
from registration_persistence.sandbox import LocalSecretsManager
from registration_persistence.testing import open_server


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """The database of all tests; a test that changes something restores it."""
    name = "doctor"
    with open_server(local_kind()) as server, LocalSecretsManager() as secrets_manager:
        admin = replace(server, user="doctor_admin", password=secrets.token_urlsafe(16))
        with server.connect() as connection:
            connection.execute(
                sql.SQL("CREATE ROLE doctor_admin LOGIN NOSUPERUSER CREATEROLE CREATEDB PASSWORD {}").format(
                    sql.Literal(admin.password)
                )
            )
            connection.execute("GRANT pg_monitor TO doctor_admin WITH ADMIN OPTION")
        admin.create_database(name)
        login = Credentials("registration_app", secrets.token_urlsafe(16))
        database = Database(
            DatabaseSettings(
                environment="test",
                host=admin.host,
                port=admin.port,
                name=name,
                user=admin.user,
                password=admin.password,
                sslmode="disable",
            )
        )
        schema.bootstrap(database, login)
        schema.upgrade(database, owner_role=schema.OWNER_ROLE)
        database.dispose()
        arn = secrets_manager.create("doctor/app", {"username": login.username, "password": login.password})
        yield Service(server, name, login, secrets_manager, arn)


@pytest.fixture
def examine(monkeypatch: pytest.MonkeyPatch) -> Examine:
    """Examine the database of an environment, and return the results by name."""

    def examined(environ: Mapping[str, str], *, seconds: float = 30.0) -> dict[str, Check]:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith(("APP_", "AWS_", "PG"))]:
                patch.delenv(name)
            for name, value in environ.items():
                patch.setenv(name, value)
            checks = list(diagnose(seconds=seconds))
        for check in checks:
            assert (check.state in {"warning", "failed"}) == bool(check.fix), check
            assert check.detail.isprintable(), check
            assert not any(len(value) > 8 and value in f"{check}" for name, value in environ.items() if "PASS" in name)
        return {check.name: check for check in checks}

    return examined
