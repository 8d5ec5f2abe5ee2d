"""The privileges of the service after a rotation of its secret."""

import secrets
from contextlib import closing
from dataclasses import replace

import pytest
from clusters import DENIED_STATEMENTS, Cluster, is_denied, service, use_every_method
from sqlalchemy import text

from registration_persistence import Credentials
from registration_persistence.database.credentials.rotation_bridge import RotationBridge
from registration_persistence.sandbox import LocalSecretsManager, rotate
from registration_persistence.sandbox.rotation import RotationStyle
from registration_persistence.schema import READ_WRITE_ROLE


@pytest.mark.parametrize("style", ["alternating", "single"])
def test_rotation_changes_only_the_login(
    prepared: Cluster, secrets_manager: LocalSecretsManager, style: RotationStyle
) -> None:
    """After each of three rotations by the admin of the cluster, the service has the same privileges."""
    value = {"username": prepared.application.username, "password": prepared.application.password, "ssl": True}
    arn = secrets_manager.create(f"registration/{secrets.token_hex(4)}", value)
    database = service(prepared, RotationBridge(arn, region="eu-west-1"))
    privileges = prepared.privileges()

    def pending_logs_in() -> None:
        pending = secrets_manager.read(arn, "AWSPENDING")
        prepared.as_login(Credentials(pending["username"], pending["password"])).close()

    users = []
    for _ in range(3):
        rotated = rotate(prepared.admin, secrets_manager, arn, style=style, pause_in_window=pending_logs_in)
        database.dispose()
        use_every_method(database)
        cold = service(prepared, RotationBridge(arn, region="eu-west-1"))
        with cold.session() as session:
            users.append(session.scalar(text("SELECT current_user")))
        cold.dispose()
        with closing(prepared.as_login(rotated)) as connection:
            assert [] == [statement for statement in DENIED_STATEMENTS if not is_denied(connection, statement)]
        # After a rotation, bootstrap changes nothing, whichever user is current.
        assert () == replace(prepared, application=rotated).bootstrap().changes
    database.dispose()

    base, clone = prepared.application.username, prepared.clone
    assert users == ([clone, base, clone] if style == "alternating" else [base] * 3)
    assert privileges == prepared.privileges()


def test_bootstrap_corrects_a_clone_created_by_the_rotation(
    prepared: Cluster, secrets_manager: LocalSecretsManager
) -> None:
    """If the clone was dropped, the rotation makes it a member of the first user; bootstrap revokes this."""
    prepared.execute("DROP ROLE {}", prepared.clone)
    value = {"username": prepared.application.username, "password": prepared.application.password}
    arn = secrets_manager.create(f"registration/{secrets.token_hex(4)}", value)

    rotated = rotate(prepared.admin, secrets_manager, arn, style="alternating")
    changes = replace(prepared, application=rotated).bootstrap().changes

    assert f"{prepared.clone} is a member of {READ_WRITE_ROLE}" in changes
    assert f"no longer: {prepared.clone} is a member of {prepared.application.username}" in changes
