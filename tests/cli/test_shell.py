"""The demo, the chaos command and the fixtures work regardless of the variables, limits and signals of the shell."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from processes import PYTEST

from registration_persistence.sandbox import LocalPostgres, embedded_binaries

HEADER = "email,display_name,locale,source,terms_version,newsletter"
SIGNUPS = f"{HEADER}\nada@example.com,Ada,en-GB,web,2026-01,yes\neve@example.com,Ève,fr,ios,2026-01,no\n"
# Nothing listens on this port.
NOWHERE = "http://127.0.0.1:9"

DATABASE = {
    "APP_ENVIRONMENT": "prod",
    "APP_DATABASE_HOST": "db.invalid",
    "APP_DATABASE_PORT": "many",
    "APP_DATABASE_USER": "root",
    "APP_DATABASE_PASSWORD": "secret",
    "APP_DATABASE_SECRET_ARN": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:other-AbCdEf",
    "APP_DATABASE_SSLMODE": "verify-full",
    "APP_DATABASE_SSL_ROOT_CERT": "/nowhere/ca.pem",
    "APP_DATABASE_STATEMENT_TIMOUT": "1",
}
LIBPQ = {
    "PGHOST": "db.invalid",
    "PGHOSTADDR": "192.0.2.1",
    "PGPORT": "9",
    "PGUSER": "nobody",
    "PGDATABASE": "nothing",
    "PGPASSWORD": "wrong",
    "PGPASSFILE": "/nowhere",
    "PGDATA": "/nowhere",
    "PGSERVICE": "nowhere",
    "PGSERVICEFILE": "/nowhere",
    "PGSYSCONFDIR": "/nowhere",
    "PGOPTIONS": "-c statement_timeout=1 -c search_path=nowhere",
    "PGTZ": "Nowhere/Land",
    "PGDATESTYLE": "wrong",
    "PGGEQO": "wrong",
    "PGAPPNAME": "other",
    "PGCLIENTENCODING": "EUC_JP",
    "PGCONNECT_TIMEOUT": "soon",
    "PGCHANNELBINDING": "require",
    "PGREQUIREAUTH": "gss",
    "PGREQUIREPEER": "nobody",
    "PGSSLMODE": "verify-full",
    "PGSSLNEGOTIATION": "direct",
    "PGSSLROOTCERT": "/nowhere",
    "PGSSLCERT": "/nowhere",
    "PGSSLKEY": "/nowhere",
    "PGSSLCRL": "/nowhere",
    "PGSSLMINPROTOCOLVERSION": "TLSv9",
    "PGGSSENCMODE": "require",
    "PGTARGETSESSIONATTRS": "standby",
    "PGLOADBALANCEHOSTS": "wrong",
}
AWS = {
    "AWS_PROFILE": "other-machine",
    "AWS_DEFAULT_PROFILE": "other-machine",
    "AWS_SESSION_TOKEN": "expired",
    "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/other",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{NOWHERE}/credentials",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT": NOWHERE,
    "AWS_ENDPOINT_URL": NOWHERE,
    "AWS_ENDPOINT_URL_SECRETS_MANAGER": NOWHERE,
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_DEFAULT_REGION": "xx-nowhere-1",
    "AWS_CA_BUNDLE": "/nowhere",
    "AWS_DATA_PATH": "/nowhere",
    "AWS_MAX_ATTEMPTS": "many",
    "AWS_RETRY_MODE": "wrong",
    "AWS_DEFAULTS_MODE": "wrong",
    "AWS_STS_REGIONAL_ENDPOINTS": "wrong",
    "AWS_METADATA_SERVICE_TIMEOUT": "soon",
    "BOTO_CONFIG": "/nowhere",
}
PROXIES = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), NOWHERE)
NO_PROXY = {"NO_PROXY": "example.com", "no_proxy": "example.com"}
MOTO = {
    "INITIAL_NO_AUTH_ACTION_COUNT": "0",
    "TEST_SERVER_MODE": "true",
    "TEST_PROXY_MODE": "true",
    "S3_UPLOAD_PART_MIN_SIZE": "small",
    "MOTO_ACM_VALIDATION_WAIT": "soon",
    "MOTO_ACCOUNT_ID": "210987654321",
    "FLASK_DEBUG": "1",
    "FLASK_RUN_FROM_CLI": "true",
    "WERKZEUG_RUN_MAIN": "true",
    "WERKZEUG_SERVER_FD": "77",
}
SYSTEM = {
    "LANG": "xx_YY.UTF-9",
    "LC_ALL": "xx_YY.UTF-9",
    "LANGUAGE": "xx",
    "TZ": "Nowhere/Land",
    "SSL_CERT_FILE": "/nowhere",
    "REQUESTS_CA_BUNDLE": "/nowhere",
}
# `make demo` and `make chaos` ignore them with the option -I.
PYTHON = {"PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2", "PYTHONHASHSEED": "many", "PYTHONHOME": "/nowhere"}


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The variables of a shell in which every one of them interferes, and a folder for temporary files with a space."""
    library_path, module_path = tmp_path / "lib", tmp_path / "modules"
    library_path.mkdir()
    module_path.mkdir()
    for name in ("libpq.so.5", "libpq.so"):
        (library_path / name).write_text("not a library")
    for name in ("json.py", "psycopg.py", "boto3.py"):
        (module_path / name).write_text("raise ImportError('another module of this name')")
    (tmp_path / "aws").write_text("[default\nthis is no configuration file")
    for name in (
        ".aws/config",
        ".aws/credentials",
        ".boto",
        ".pg_service.conf",
        ".pgpass",
        ".postgresql/postgresql.crt",
    ):
        (tmp_path / "home" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "home" / name).write_text("[this is no configuration file")
    files = {name: str(tmp_path / "aws") for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")}
    paths = {"LD_LIBRARY_PATH": str(library_path), "PYTHONPATH": str(module_path), "PATH": os.environ["PATH"]}
    paths["HOME"] = str(tmp_path / "home")
    scratch = Path(tempfile.mkdtemp(prefix="with a space "))
    scratch.chmod(0o755)
    yield {
        **DATABASE, **LIBPQ, **AWS, **PROXIES, **NO_PROXY, **MOTO, **SYSTEM, **PYTHON, **files, **paths,
        "TMPDIR": str(scratch),
    }  # fmt: skip
    leftovers = list(scratch.iterdir())
    shutil.rmtree(scratch, ignore_errors=True)
    assert [] == leftovers


def limit_the_process() -> None:
    """Set limits, a mask and signals that a shell, a service manager or `nohup` may leave to its processes."""
    os.umask(0o077)
    for limit, value in ((resource.RLIMIT_NOFILE, 28), (resource.RLIMIT_FSIZE, 2**20), (resource.RLIMIT_STACK, 2**19)):
        resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD])


def run(arguments: Sequence[str], shell: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with *arguments* in *shell*."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=shell,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=limit_the_process,
    )


def test_the_demo_ignores_the_shell(shell: dict[str, str], tmp_path: Path) -> None:
    """Two people are registered, and nothing is printed as an error."""
    (tmp_path / "people.csv").write_text(SIGNUPS, encoding="utf-8")

    done = run(["-I", "-m", "registration_persistence", "demo", "people.csv"], shell, tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert "2 sign-ups in " in done.stdout


def test_the_chaos_command_ignores_the_shell(shell: dict[str, str], tmp_path: Path) -> None:
    """A short run is sound."""
    arguments = ["--seconds=4", "--processes=1", "--faults=terminated"]

    done = run(["-I", "-m", "registration_persistence", "chaos", *arguments], shell, tmp_path)

    assert done.returncode == 0, done.stderr + done.stdout
    assert "Nothing was lost or duplicated" in done.stdout


TESTS = """
import os

import boto3

from registration_persistence import RegistrationRepository, get_db

pytest_plugins = ["registration_persistence.testing.plugin"]


def handler(event, context):
    with get_db().session() as session:
        RegistrationRepository(session).register("ada@example.com")
    return sorted(os.environ)


def test_the_service_in_this_process(registration_environment, rotate):
    handler(None, None)
    rotate()
    get_db().dispose()
    handler(None, None)
    with registration_environment.connect() as connection:
        assert connection.execute("SELECT count(*) FROM registrations").fetchone() == (2,)
    assert registration_environment.secrets_manager.calls["GetSecretValue"] > 1


def test_the_service_in_its_own_process(registration_environment, lambda_process):
    names = lambda_process(f"{__file__}:handler").invoke()
    assert not [name for name in names if name.startswith("PG") or name.lower().endswith("_proxy")]
    assert "AWS_PROFILE" not in names
    assert registration_environment.secrets_manager.calls["GetSecretValue"] == 1


def test_a_client_of_the_service(secrets_manager):
    arn = secrets_manager.create("mine", "value")
    client = boto3.client("secretsmanager", region_name="eu-west-1")
    assert client.meta.endpoint_url == os.environ["AWS_ENDPOINT_URL_SECRETS_MANAGER"]
    assert client.get_secret_value(SecretId=arn)["SecretString"] == "value"


def test_a_session_and_a_database(isolated_session, database):
    RegistrationRepository(isolated_session).register("ada@example.com")
    with database.session() as session:
        RegistrationRepository(session).register("ada@example.com")


def test_the_shell_is_back_after_the_tests():
    assert os.environ["PGHOSTADDR"] == "192.0.2.1"
    assert os.environ["AWS_PROFILE"] == "other-machine"
"""


def test_the_fixtures_ignore_the_shell(shell: dict[str, str], tmp_path: Path) -> None:
    """A service is tested in the same process and in its own; afterwards the variables have their values again."""
    (tmp_path / "test_service.py").write_text(TESTS)
    environ = {**shell, "DOCKER_HOST": "unix:///nowhere"}

    done = run(
        ["-I", *PYTEST, "test_service.py"],
        environ,
        tmp_path,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


def test_programs_that_only_root_can_read_are_copied(tmp_path: Path) -> None:
    """If the package was installed with umask 077, the server runs with copies that its user can read."""
    programs = embedded_binaries()
    package = programs.parents[1]
    copy = tmp_path / package.name / programs.parent.name
    shutil.copytree(programs.parent, copy, symlinks=True)
    shutil.copytree(f"{package}.libs", tmp_path / f"{package.name}.libs")
    for path in tmp_path.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)

    with LocalPostgres(copy / programs.name) as postgres:
        postgres.server.connect().close()


def test_a_hard_limit_that_is_too_low_is_one_line() -> None:
    """The message says which command raises it."""
    program = "from registration_persistence.sandbox.limits import raise_limits; raise_limits()"
    without_privilege = ["setpriv", "--bounding-set=-sys_resource"] if os.geteuid() == 0 else []

    done = subprocess.run(
        [*without_privilege, "sh", "-c", 'ulimit -n 100; exec "$0" -c "$1"', sys.executable, program],
        capture_output=True,
        text=True,
        check=False,
    )

    *_, last = done.stderr.splitlines()
    assert last.endswith(
        "the hard limit of open files is 100: PostgreSQL needs 256; "
        "run ulimit -n 256 with the privileges for it, or raise the limit of your login"
    )
