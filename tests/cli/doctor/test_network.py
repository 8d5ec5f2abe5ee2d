"""`doctor`: the environment, the host name, the port, TLS and limits of time, each with the real cause."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import trustme
from examined_service import Examine, Service, unusual
from rogue_server import rogue_server
from tls_servers import TLS_ONLY, tls_server

from registration_persistence import Database, DatabaseSettings
from registration_persistence.cli.doctor.check import Check, failed, ok
from registration_persistence.cli.doctor.diagnosis import diagnose
from registration_persistence.cli.doctor.examination import Step, call_in_time
from registration_persistence.cli.doctor.examination import examine as examine_steps
from registration_persistence.cli.doctor.facts import Facts
from registration_persistence.cli.doctor.network import endpoint_kind, host_check
from registration_persistence.sandbox import TcpProxy

OF_RDS = "c1a2b3.eu-west-1.rds.amazonaws.com"


@contextmanager
def silent_port() -> Iterator[int]:
    """Yield a port that drops each packet of a new connection, because its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = []
        for _ in range(3):
            client = socket.socket()
            client.settimeout(0)
            client.connect_ex(("127.0.0.1", port))
            waiting.append(client)
        try:
            yield port
        finally:
            for client in waiting:
                client.close()


def test_all_problems_of_the_environment_are_reported(examine: Examine) -> None:
    """Each problem is a check that names its variable, and nothing else is checked."""
    checks = examine({"APP_DATABASE_PORT": "abc", "APP_DATABASE_NMAE": "typo"})

    assert {"environment": "failed", "other checks": "skipped"} == unusual(checks)


def test_a_variable_that_libpq_obeys_is_an_error(service: Service, examine: Examine) -> None:
    """PGTZ stops each login, so nothing else is checked; PGHOST has no effect, which is said."""
    wrong = examine({**service.with_password, "PGTZ": "UTC"})
    harmless = examine({**service.with_password, "PGHOST": "elsewhere", "PGPASSWORD": "another"})

    assert {"environment": "failed", "other checks": "skipped"} == unusual(wrong)
    assert wrong["environment"].detail.startswith("PGTZ is set")
    assert {} == unusual(harmless)
    assert harmless["libpq variables"].detail.endswith("PGHOST; PGPASSWORD")


def test_a_name_that_does_not_resolve(service: Service, examine: Examine) -> None:
    """The name is in the line, and every check of the server is skipped."""
    checks = examine({**service.with_password, "APP_DATABASE_HOST": "nowhere.invalid"})

    assert checks["host name"].state == "failed"
    assert checks["host name"].detail.startswith("nowhere.invalid does not resolve: ")
    assert "enableDnsSupport" in checks["host name"].fix
    assert {"environment", "password", "host name"} == {
        name for name, check in checks.items() if check.state != "skipped"
    }
    assert checks["port"].detail == "the check 'host name' did not succeed"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (f"app.cluster-{OF_RDS}", "cluster endpoint"),
        (f"APP.cluster-ro-{OF_RDS}", "reader endpoint"),
        (f"any.cluster-custom-{OF_RDS}", "custom endpoint"),
        (f"app.proxy-{OF_RDS}", "proxy endpoint"),
        (f"app-1.{OF_RDS}", "instance endpoint"),
        ("app.global-c1a2b3.global.rds.amazonaws.com", "global endpoint"),
        ("localhost", None),
    ],
)
def test_the_kind_of_an_endpoint_is_in_its_name(host: str, expected: str | None) -> None:
    """Each kind of endpoint of RDS is recognised, in any case."""
    assert expected == endpoint_kind(host)


@pytest.mark.parametrize(
    ("host", "pool", "state", "shown"),
    [
        (f"app.cluster-{OF_RDS}", "service", "ok", "(cluster endpoint) has 1 address: 127.0.0.1"),
        (f"app-1.{OF_RDS}", "service", "warning", "does not follow a failover"),
        (f"app.cluster-ro-{OF_RDS}", "service", "warning", "may lead to a reader"),
        (f"app.proxy-{OF_RDS}", "service", "warning", "APP_DATABASE_POOL is service"),
        (f"app.proxy-{OF_RDS}", "proxy", "ok", "(proxy endpoint)"),
    ],
)
def test_an_endpoint_that_does_not_suit_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, host: str, pool: Any, state: str, shown: str
) -> None:
    """An instance, readers, and a proxy that the settings do not know are warnings; the name resolves here."""
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))]
    )
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf"
    check = host_check(Facts(Database(DatabaseSettings(host=host, name="db", secret_arn=arn, pool=pool))))

    assert state == check.state
    assert shown in check.detail


def test_a_refused_and_a_silent_port_are_told_apart(service: Service, examine: Examine) -> None:
    """A refusal names the port, and silence the security group; neither takes longer than its limit."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refused = examine({**service.with_password, "APP_DATABASE_PORT": str(unused.getsockname()[1])})
    started = time.monotonic()
    with silent_port() as port:
        silent = examine({**service.with_password, "APP_DATABASE_PORT": str(port)})

    assert time.monotonic() - started < 6
    assert ("failed", "skipped") == (refused["port"].state, refused["login"].state)
    assert "refuses connections" in refused["port"].detail
    assert ("failed", "skipped") == (silent["port"].state, silent["login"].state)
    assert "is silent" in silent["port"].detail
    assert "security group" in silent["port"].fix


def test_a_server_that_never_answers_is_given_up(service: Service, examine: Examine) -> None:
    """A server that accepts connections and is silent, like a paused cluster, uses up the time limit and no more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        environ = service.with_password | {
            "APP_DATABASE_PORT": str(listener.getsockname()[1]),
            "APP_DATABASE_SSLMODE": "require",
            "APP_DATABASE_CONNECT_TIMEOUT": "2",
        }
        started = time.monotonic()
        checks = examine(environ)
        seconds = time.monotonic() - started

    assert seconds < 7
    assert ("ok", "warning", "failed") == (checks["port"].state, checks["TLS"].state, checks["login"].state)
    assert "paused Aurora cluster" in checks["login"].detail


class SilentProxy(TcpProxy):
    """A proxy that can stop to forward, like a network that drops all packets."""

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port)
        self.is_silent = False
        self.ended = Event()

    def before_forwarding(self, data: bytes, *, from_client: bool, is_turn: bool) -> None:  # noqa: ARG002 all are the same
        """Wait until the end of the test."""
        if self.is_silent:
            self.ended.wait()


def test_a_connection_that_is_lost_or_silent_is_used_no_more(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a loss the other checks of the server are skipped; on a dead network the examination ends in time."""
    with SilentProxy(service.server.port) as proxy:
        for name, value in (service.with_password | {"APP_DATABASE_PORT": str(proxy.port)}).items():
            monkeypatch.setenv(name, value)
        lost = {}
        for check in diagnose(seconds=10):
            lost[check.name] = check
            if check.name == "login":
                proxy.cut()
        started = time.monotonic()
        silent = {}
        for check in diagnose(seconds=2.5):
            silent[check.name] = check
            proxy.is_silent = check.name == "login" or proxy.is_silent
        seconds = time.monotonic() - started
        proxy.ended.set()

    assert ("ok", "failed", "skipped") == (lost["login"].state, lost["clock"].state, lost["outbox"].state)
    assert lost["outbox"].detail == "the connection was lost in a check before"
    assert seconds < 6
    assert ("ok", "failed", "skipped") == (silent["login"].state, silent["clock"].state, silent["outbox"].state)


def late(seconds: float, name: str) -> Check:
    """Return a result after some time."""
    time.sleep(seconds)
    return ok(name, "")


def test_a_wait_that_cannot_be_ended_is_left_to_its_thread(service: Service) -> None:
    """The examination goes on after the limit of a check, and ends after that of the whole."""
    steps = [
        Step("stuck", lambda _: late(30, "stuck"), seconds=0.1),
        Step("needs it", lambda _: ok("needs it", ""), needs=("stuck",)),
        Step("connection", lambda facts: ok("connection", f"{facts.connection}")),
        Step("broken", lambda _: failed("broken", f"{1 / 0}", "")),
        Step("slow", lambda _: late(1.2, "slow")),
        Step("late", lambda _: ok("late", "")),
    ]
    facts = Facts(Database(DatabaseSettings.from_env(service.with_password)))
    connection = facts.database.engine.connect()
    facts.use_connection(connection)
    started = time.monotonic()
    checks = {check.name: check for check in examine_steps(facts, steps, seconds=2.3)}
    connection.close()
    facts.close()

    assert time.monotonic() - started < 5
    assert ("failed", "no answer within 0 s") == (checks["stuck"].state, checks["stuck"].detail)
    assert checks["needs it"].detail == "the check 'stuck' did not succeed"
    assert checks["connection"].detail == "the connection was lost in a check before"
    assert checks["broken"].detail.startswith("unexpected ZeroDivisionError: division by zero at test_network.py:")
    assert checks["late"].detail == "the 2.3 s of --timeout are over"
    with pytest.raises(TimeoutError):
        call_in_time(lambda: time.sleep(30), 0.0)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The authority of the certificates."""
    return trustme.CA()


def test_tls_is_judged_by_the_settings(
    authority: trustme.CA, service: Service, examine: Examine, tmp_path: Path
) -> None:
    """A verified certificate is ok; another name or authority, an end that is near or past, and no TLS are not."""
    ours, foreign = tmp_path / "ours.pem", tmp_path / "foreign.pem"
    authority.cert_pem.write_to_path(ours)
    trustme.CA().cert_pem.write_to_path(foreign)
    now = datetime.now(UTC)

    def state_with(issued: trustme.LeafCert | None, file: Path | None, sslmode: str) -> tuple[str, str, str]:
        with rogue_server("scram", issued) as server:
            environ = service.with_password | {"APP_DATABASE_PORT": str(server.port), "APP_DATABASE_SSLMODE": sslmode}
            checks = examine(environ | ({"APP_DATABASE_SSL_ROOT_CERT": str(file)} if file else {}))
        assert checks["login"].state == ("skipped" if checks["TLS"].state == "failed" else "failed")
        return checks["TLS"].state, checks["TLS"].detail, checks["TLS"].fix

    good = authority.issue_cert("127.0.0.1", not_after=now + timedelta(days=90))
    state, detail, _ = state_with(good, ours, "verify-full")
    assert state == "ok"
    assert detail.startswith("TLSv1.3, certificate of ")
    assert "in 89 days; verified (verify-full)" in detail
    state, detail, fix = state_with(good, foreign, "verify-full")
    assert (state, "not verified against" in detail, "root certificate of that authority" in fix) == (
        "failed",
        True,
        True,
    )
    state, detail, fix = state_with(authority.issue_cert("other.example"), ours, "verify-full")
    assert (state, "other.example" in detail or "trustme" in detail) == ("failed", True)
    assert "set APP_DATABASE_HOST to the name in the certificate" in fix
    assert state_with(authority.issue_cert("other.example"), ours, "verify-ca")[0] == "ok"
    state, detail, fix = state_with(
        authority.issue_cert("127.0.0.1", not_after=now + timedelta(days=5)), ours, "verify-full"
    )
    assert (state, "in 4 days" in detail, "renew the certificate" in fix) == ("warning", True, True)
    state, detail, fix = state_with(
        authority.issue_cert("127.0.0.1", not_after=now - timedelta(days=5)), ours, "verify-full"
    )
    assert (state, "renew the certificate" in fix) == ("failed", True)
    (tmp_path / "no.pem").write_text("no certificate")
    state, detail, fix = state_with(good, tmp_path / "no.pem", "verify-full")
    assert (state, "cannot be read" in detail, "APP_DATABASE_SSL_ROOT_CERT" in fix) == ("failed", True, True)
    assert state_with(good, None, "require")[0] == "ok"
    state, detail, _ = state_with(None, None, "require")
    assert (state, detail) == ("failed", "the server has no TLS, and APP_DATABASE_SSLMODE is require")
    assert state_with(None, None, "prefer")[0] == "ok"


@pytest.mark.tls
def test_a_login_over_tls(authority: trustme.CA, examine: Examine, tmp_path: Path) -> None:
    """With a real server, the check of the certificate and the login of libpq agree."""
    ours = tmp_path / "ours.pem"
    authority.cert_pem.write_to_path(ours)
    with tls_server(authority.issue_cert("localhost"), TLS_ONLY) as server:
        checks = examine(
            {
                "APP_ENVIRONMENT": "test",
                "APP_DATABASE_HOST": "localhost",
                "APP_DATABASE_PORT": str(server.port),
                "APP_DATABASE_NAME": "postgres",
                "APP_DATABASE_USER": server.user,
                "APP_DATABASE_PASSWORD": server.password,
                "APP_DATABASE_SSL_ROOT_CERT": str(ours),
            }
        )

    assert ("ok", "ok") == (checks["TLS"].state, checks["login"].state)
    assert "over TLS" in checks["login"].detail
