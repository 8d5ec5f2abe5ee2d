"""`registration_infra.migrate_client`: one invocation of the migration function, and one line for each failure."""

import socket
from pathlib import Path

import deploy
import pytest
from deployment.fake_cloud import HANG_UP, Cloud, Reply, answered, deployment, failed, function, refused
from registration_infra import migrate_client

OUTCOME_UNKNOWN = "registration-dev-migrate was invoked for upgrade and may still be running"


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (
            refused(404, "ResourceNotFoundException", "Function not found: arn:…"),
            ("registration-dev-migrate does not exist in 111111111111, eu-central-1: deploy the database first, with "
            "make deploy-database ENVIRONMENT=dev"),
        ),
        (
            refused(429, "TooManyRequestsException", "Rate Exceeded."),
            "registration-dev-migrate is already running, and may run only once at a time: wait until it has ended",
        ),
        (
            refused(403, "AccessDeniedException", "User: arn:aws:iam::222222222222:user/me is not authorized"),
            ("registration-dev-migrate could not be invoked for upgrade: AccessDeniedException: User: "
            "arn:aws:iam::222222222222:user/me is not authorized"),
        ),
        (
            failed("Sandbox.Timedout", "RequestId: 1 Error: Task timed out after 900.00 seconds"),
            ("registration-dev-migrate failed in upgrade: Sandbox.Timedout: RequestId: 1 Error: Task timed out after "
            "900.00 seconds"),
        ),
        (
            failed("DeploymentInProgress", "another deployment is at work"),
            "registration-dev-migrate failed in upgrade: DeploymentInProgress: another deployment is at work",
        ),
        (
            Reply(b"<html>a proxy</html>"),
            "registration-dev-migrate answered upgrade with b'<html>a proxy</html>': expected a JSON object",
        ),
        (answered(None), "registration-dev-migrate answered upgrade with b'null': expected a JSON object"),
        (Reply(b"\xff\xfe", headers={"X-Amz-Function-Error": "Unhandled"}), "upgrade with b'\\xff\\xfe': expected"),
        (refused(500, "ServiceException", "Ouch"), f"{OUTCOME_UNKNOWN}: ServiceException: Ouch; see its log"),
        (Reply(b"", 502), f"{OUTCOME_UNKNOWN}: 502: Bad Gateway; see its log /aws/lambda/"),
        (Reply(b"", 503), f"{OUTCOME_UNKNOWN}: 503: Service Unavailable; see its log /aws/lambda/"),
        (Reply(b"", 504), f"{OUTCOME_UNKNOWN}: 504: Gateway Timeout; see its log /aws/lambda/"),
        (HANG_UP, f"{OUTCOME_UNKNOWN}: Connection was closed before"),
    ],
    ids=[
        "missing", "throttled", "denied", "timed out", "locked", "no JSON", "null", "no text", "500", "502", "503",
        "504", "hung up",
    ],
)  # fmt: skip
def test_failed_migration_is_not_retried(cloud: Cloud, reply: Reply, problem: str) -> None:
    """After any error of Lambda, the exit code is 1, one line describes the error, and there is no second request."""
    cloud.replies["upgrade"] = reply

    run = cloud.step("migrate")

    assert run.code == 1
    assert run.out == []
    assert len(run.err) == 1
    assert problem in run.err[0]
    assert cloud.summary == [f"upgrade {function('dev')}"]


def test_migration_without_an_answer_is_not_retried(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The read timeout exceeds the longest run; after it, one line names the log, and there is no second request."""
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    assert migrate_client._READ_TIMEOUT_SECONDS > 900  # noqa: SLF001 it is not public
    monkeypatch.setattr(migrate_client, "_READ_TIMEOUT_SECONDS", 0.3)
    cloud.answering.clear()

    assert deploy.main(["all", "dev"]) == 1

    error = capsys.readouterr().err
    assert "registration-dev-migrate was invoked for bootstrap and may still be running: Read timeout" in error
    assert "see its log /aws/lambda/registration-dev-migrate" in error
    assert "run `python deploy.py current dev` for the revision of the database" in error
    assert cloud.summary == deployment("dev")[:2]


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc/net/tcp of Linux")
def test_waiting_connection_has_keep_alive(cloud: Cloud) -> None:
    """The connection that waits for the end of a migration has TCP keep-alive."""
    cloud.step("migrate")

    assert cloud.keeps_alive == [True]


def test_missing_credentials_are_one_line(cloud: Cloud) -> None:
    """Without credentials, the error says how to sign in, and no request is sent."""
    run = cloud.step("migrate", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")

    assert run.code == 1
    assert run.err == ["deploy.py: there are no AWS credentials: sign in (aws sso login), or set AWS_PROFILE"]
    assert cloud.summary == []


def test_unknown_profile_is_one_line(cloud: Cloud) -> None:
    """The error names a profile that does not exist."""
    run = cloud.step("migrate", AWS_PROFILE="nobody")

    assert run.code == 1
    assert run.err == [
        (
            "deploy.py: registration-dev-migrate could not be invoked for upgrade: "
            "The config profile (nobody) could not be found"
        )
    ]


def test_unreachable_endpoint_is_one_line(cloud: Cloud) -> None:
    """If the endpoint cannot be reached, the error names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    run = cloud.step("migrate", AWS_ENDPOINT_URL_LAMBDA=address)

    assert (run.code, len(run.err)) == (1, 1)
    assert f'Could not connect to the endpoint URL: "{address}' in run.err[0]
