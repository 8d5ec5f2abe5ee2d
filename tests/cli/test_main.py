"""`registration-persistence`, as the program that people and pipelines start."""

import re
import secrets
import subprocess
from collections.abc import Iterator
from importlib.metadata import version

import pytest
from command_line import COMMAND, LOGIN, PASSWORD, one_line, open_command_server, run, variables

from registration_persistence.sandbox import LocalSecretsManager, PostgresServer
from registration_persistence.schema import MONITORING_ROLE, OWNER_ROLE, READ_WRITE_ROLE

ROLES = (OWNER_ROLE, READ_WRITE_ROLE, MONITORING_ROLE)
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server for all of these tests."""
    with open_command_server() as address:
        yield address


@pytest.fixture
def environ(server: PostgresServer) -> Iterator[dict[str, str]]:
    """The variables that name an empty database."""
    name = f"command_{secrets.token_hex(8)}"
    server.create_database(name, owner=LOGIN)
    yield variables(server.port, name)
    server.drop_database(name)


def test_the_way_of_a_new_database(environ: dict[str, str]) -> None:
    """`current`, `check`, `migrate` and `ping` say of a database what there is to say, before and after."""
    assert run("current", environ=environ).stdout == "no revision\n"
    assert re.fullmatch(
        r"registration-persistence: the database is at revision None, the newest is \w+: "
        r"run registration-persistence migrate",
        one_line(run("check", environ=environ, code=1).stderr),
    )

    migrated = re.fullmatch(r"the database is at revision (\w+)", one_line(run("migrate", environ=environ).stdout))

    assert migrated
    assert f"{migrated[1]}\n" == run("current", environ=environ).stdout
    assert "the database is at the newest revision and matches the models" in run("check", environ=environ).stdout
    assert re.fullmatch(
        rf"<Database {environ['APP_DATABASE_NAME']} at 127\.0\.0\.1:{environ['APP_DATABASE_PORT']}>: "
        r"PostgreSQL 16\.\d+, writable, without TLS, \d+ ms",
        one_line(run("ping", environ=environ).stdout),
    )


def test_migrate_says_what_it_does_and_no_more(environ: dict[str, str]) -> None:
    """`migrate` prints the revisions that it runs, and nothing of connection pools."""
    said = run("migrate", environ=environ).stderr

    assert "Running upgrade  -> " in said
    assert "Pool" not in said


def test_migrate_prints_sql_without_any_environment() -> None:
    """`migrate --sql` needs no database and no variable, and prints SQL alone to standard output."""
    printed = run("migrate", "--sql").stdout

    assert printed.startswith("BEGIN;")
    assert printed.rstrip().endswith("COMMIT;")
    assert "CREATE TABLE registrations (" in printed


@pytest.mark.parametrize("command", ["migrate", "ping"])
def test_an_empty_environment_is_wrong_use(command: str) -> None:
    """Without its variables every command ends with 2 and lists all that is missing."""
    done = run(command, code=2)

    assert done.stdout == ""
    assert [
        "registration-persistence: the database settings are wrong:",
        "  - APP_DATABASE_HOST is not set",
        "  - APP_DATABASE_NAME is not set",
        "  - APP_DATABASE_SECRET_ARN is not set",
    ] == [re.split(r"(?<=is not set):", line)[0] for line in done.stderr.splitlines()]


def test_all_problems_of_the_environment_are_told_at_once() -> None:
    """Each variable that is wrong has a line of its own, and none shows the password."""
    wrong = {**variables(5432), "APP_DATABASE_PORT": "many", "APP_DATABASE_SSLMODE": "on", "APP_ENVIRONMENT": "prod"}

    said = run("ping", environ=wrong, code=2).stderr

    for name in ("APP_DATABASE_PORT", "APP_DATABASE_SSLMODE", "APP_DATABASE_USER and APP_DATABASE_PASSWORD"):
        assert f"\n  - {name} " in said


@pytest.mark.parametrize("command", ["migrate", "ping"])
def test_a_server_that_does_not_answer_is_one_line(command: str) -> None:
    """Where nothing listens, every command ends with 1 and says in one line what it could not reach."""
    said = one_line(run(command, environ={**variables(1), "APP_DATABASE_CONNECT_TIMEOUT": "2"}, code=1).stderr)

    assert said.startswith("registration-persistence: cannot connect to registration at 127.0.0.1:1: ")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"APP_DATABASE_PASSWORD": "wrong"}, "password authentication failed"),
        ({"APP_DATABASE_NAME": "nowhere"}, 'database "nowhere" does not exist'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_server_that_refuses_is_one_line(environ: dict[str, str], changes: dict[str, str], reason: str) -> None:
    """Where the server refuses the client, the command ends with 1 and the reason."""
    assert reason in one_line(run("ping", environ=environ | changes, code=1).stderr)


@pytest.mark.parametrize("arguments", [("migrate", "0123456789ab"), ("migrate", "0123456789ab", "--sql")])
def test_a_revision_that_nobody_knows_is_told(environ: dict[str, str], arguments: tuple[str, ...]) -> None:
    """An unknown revision ends in a line that names it, on a database and offline."""
    done = run(*arguments, environ=environ, code=1)

    assert "0123456789ab" in done.stderr.splitlines()[-1]


def test_an_owner_role_that_is_not_granted_is_told(environ: dict[str, str]) -> None:
    """An owner role that the login may not become ends in a line that names it."""
    done = run("migrate", environ={**environ, "APP_DATABASE_OWNER_ROLE": "nobody_knows"}, code=1)

    assert '"nobody_knows"' in done.stderr.splitlines()[-1]


@pytest.fixture
def admin(server: PostgresServer) -> Iterator[dict[str, str]]:
    """The variables that name an empty database of an admin that is no superuser, and a Secrets Manager."""
    name, user = f"bootstrap_{secrets.token_hex(8)}", f"admin_{secrets.token_hex(4)}"
    server.create_login(user, PASSWORD)
    with server.connect() as connection:
        connection.execute(f"ALTER ROLE {user} CREATEROLE CREATEDB")
        connection.execute(f"GRANT pg_monitor TO {user} WITH ADMIN OPTION")
    server.create_database(name, owner=user)
    with LocalSecretsManager() as secrets_manager:
        arn = secrets_manager.create(name, {"username": "registration_app", "password": PASSWORD})
        yield {
            **variables(server.port, name),
            **secrets_manager.environment,
            "APP_DATABASE_USER": user,
            "APP_DATABASE_APPLICATION_SECRET_ARN": arn,
        }
    server.drop_database(name)
    with server.connect() as connection:
        roles = ["registration_app", "registration_app_clone", *ROLES, user]
        known = {role for (role,) in connection.execute("SELECT rolname FROM pg_roles")}
        for role in (role for role in roles if role in known):
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_bootstrap_says_what_it_did(admin: dict[str, str]) -> None:
    """A line for each change, and one where there was nothing to do; then the tables, the owner's, with partitions."""
    owner = {**admin, "APP_DATABASE_OWNER_ROLE": OWNER_ROLE}

    first = run("bootstrap", environ=admin).stdout.splitlines()

    assert "registration_app has the password of its secret" in first
    assert "registration_app_clone is a role with login" in first
    assert run("bootstrap", environ=admin).stdout == "everything is as it should be\n"
    run("migrate", environ=owner)
    assert "permission denied" in run("partitions", "--months", "40", environ=service(admin), code=1).stderr
    assert "partitions made: " in run("partitions", "--months", "40", environ=owner).stdout
    run("check", environ=service(admin))
    assert "expired 0" in run("expire", environ=service(admin)).stdout


def service(admin: dict[str, str]) -> dict[str, str]:
    """The variables of the service's login."""
    return {**admin, "APP_DATABASE_USER": "registration_app"}


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("--application-secret", "nonsense"), 2, "APP_DATABASE_APPLICATION_SECRET_ARN is 'nonsense': expected arn:"),
        (("--monitoring-secret", f"{SECRET}missing-AbCdEf"), 1, f"cannot read the secret {SECRET}missing-AbCdEf"),
    ],
)
def test_bootstrap_without_its_secrets_is_told(
    admin: dict[str, str], arguments: tuple[str, ...], code: int, reason: str
) -> None:
    """What is no ARN, and a secret that is not there, is an error that names it."""
    assert reason in run("bootstrap", *arguments, environ=admin, code=code).stderr.splitlines()[-1]


def test_bootstrap_as_somebody_else_is_told(admin: dict[str, str], environ: dict[str, str]) -> None:
    """With a login that may not create roles, the reasons are listed."""
    said = run("bootstrap", environ={**admin, **environ}, code=1).stderr

    assert said.startswith("registration-persistence: the roles cannot be created, and nothing was changed:\n  - ")
    assert f"{LOGIN} may not create roles: use the cluster's own secret" in said


def test_the_reader_of_the_sql_may_go_away() -> None:
    """`migrate --sql | head` ends quietly."""
    with subprocess.Popen(
        [*COMMAND, "migrate", "--sql"],
        env={},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        said = process.stderr.read()

    assert "Traceback" not in said


def test_help_names_every_command() -> None:
    """`--help` lists the commands, each with what it does."""
    said = run("--help").stdout

    for command in ("bootstrap", "migrate", "current", "check", "ping", "demo"):
        assert re.search(rf"^    {command}\s+\w", said, re.MULTILINE)


def test_version_is_that_of_the_package() -> None:
    """`--version` prints the version that is installed."""
    assert f"{version('registration-persistence')}\n" == run("--version").stdout


@pytest.mark.parametrize("arguments", [(), ("frobnicate",)])
def test_wrong_arguments_are_wrong_use(arguments: tuple[str, ...]) -> None:
    """Arguments that the command does not know end with 2 and its usage."""
    assert run(*arguments, code=2).stderr.startswith("usage: registration-persistence")
