"""A cold start: what a new process loads until its first registration is stored."""

import json
import subprocess
import sys

from processes import python_environment
from support import variables_of

from registration_persistence import DatabaseSettings

PROGRAM = """
import json, sys

from registration_persistence import RegistrationRepository, get_db

loaded = [len(sys.modules)]

def sign_up(session):
    return RegistrationRepository(session).register("Ada.Lovelace+1@Example.com", idempotency_key="k")

outcome = get_db().run(sign_up, idempotent=True)
assert outcome.registration.email_key == "ada.lovelace+1@example.com", outcome
print(json.dumps([*loaded, sorted(sys.modules)]))
"""

RARELY_USED = {
    *("alembic", "argparse", "asyncpg", "aws_secretsmanager_caching", "boto3", "botocore", "cryptography", "dns"),
    *("email_validator", "idna", "opentelemetry", "pydantic", "requests", "rich", "urllib3"),
}
RARELY_USED_OF_THE_PACKAGE = {
    *("cli", "models", "outbox_worker", "sandbox", "schema", "testing", "domain.claimed_messages", "domain.codes"),
    *("database.bounded_pipeline", "database.presented_certificate", "database.server_refusal"),
    *("database.credentials.iam_tokens", "database.credentials.rotation_bridge", "database.credentials.secret_reader"),
    *("repositories.bulk_import", "repositories.consents", "repositories.events", "repositories.outbox"),
    *("repositories.privacy", "repositories.retention", "repositories.verification", "repositories.wrong_attempts"),
}


def test_a_first_registration_loads_only_what_it_needs(database_settings: DatabaseSettings) -> None:
    """No validator for a plain address, no AWS SDK for a given password, no other repository, and a bounded number."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=python_environment(**variables_of(database_settings)),
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    imported, modules = json.loads(run.stdout)
    assert sorted(RARELY_USED & {name.partition(".")[0] for name in modules}) == []
    unwanted = {f"registration_persistence.{name}" for name in RARELY_USED_OF_THE_PACKAGE}
    assert sorted(unwanted & set(modules)) == []
    # SQLAlchemy with the ORM, psycopg and uuid_utils are about 450 of them.
    assert imported <= 545
    assert len(modules) <= 550
