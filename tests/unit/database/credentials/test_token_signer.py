"""Tokens of IAM, compared with those of the AWS SDK."""

from datetime import UTC, datetime
from typing import Any

import pytest
from boto3.session import Session

from registration_persistence.database.credentials.token_signer import TokenSigner

HOST = "app.cluster-c1a2b3.eu-west-1.rds.amazonaws.com"
KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "se/cr+et", "AWS_SESSION_TOKEN": "to/ke+n=="}


@pytest.mark.parametrize("session_token", [True, False])
@pytest.mark.parametrize(
    ("host", "port", "user"),
    [(HOST, 5432, "app"), (HOST.upper() + ".", 6000, "wé/ird+us er@&=%~"), (HOST, 443, "app")],
)
def test_the_token_is_that_of_the_sdk(
    monkeypatch: pytest.MonkeyPatch, host: str, port: int, user: str, *, session_token: bool
) -> None:
    """`generate_db_auth_token` of boto3 returns the same text at the same moment."""
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    for name, value in KEYS.items():
        if session_token or name != "AWS_SESSION_TOKEN":
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name, raising=False)
    client: Any = Session().client("rds", region_name="us-west-2")

    token = TokenSigner(user, host=host, port=port, region="eu-west-1").sign()

    assert token == client.generate_db_auth_token(DBHostname=HOST, Port=port, DBUsername=user, Region="eu-west-1")
    assert ("X-Amz-Security-Token" in token) is session_token
    assert "X-Amz-Expires=900&" in token
