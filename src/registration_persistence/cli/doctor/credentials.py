"""The credentials: the secret and its rotation, the token of IAM, or the password of the settings."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from registration_persistence.cli.doctor.check import Check, failed, ok, skipped, warning
from registration_persistence.cli.doctor.facts import Facts
from registration_persistence.database import DatabaseSettings
from registration_persistence.database.environment_rules import is_relaxed
from registration_persistence.errors import SecretRefused
from registration_persistence.quantities import counted

ROTATION = "rotation"

# Secrets Manager rotates within a window of hours that begins at the announced time.
_OVERDUE_AFTER = timedelta(days=1)

_RUNBOOK = "docs/runbooks/rotate-at-once.md"


def name_of_source(settings: DatabaseSettings) -> str:
    """Return the name of the check of the credentials."""
    if settings.auth == "iam":
        return "IAM token"
    return "secret" if settings.secret_arn else "password"


def credentials_check(facts: Facts) -> Check:
    """Get the credentials as the first connection does."""
    settings = facts.settings
    name = name_of_source(settings)
    credentials = facts.database.credentials.current()
    if settings.auth == "iam":
        from registration_persistence.database.credentials.aws_identity import aws_identity
        from registration_persistence.database.credentials.token_signer import TOKEN_SECONDS

        minutes = TOKEN_SECONDS // 60
        return ok(
            name,
            f"user {credentials.username!r}, {credentials.origin}, with {aws_identity()}; each token is valid for "
            f"{minutes} minutes",
        )
    if not settings.secret_arn:
        return ok(name, f"user {credentials.username!r} with the password of the environment")
    return ok(name, f"user {credentials.username!r}, {credentials.origin}")


def rotation_check(facts: Facts) -> Check:
    """Ask Secrets Manager for the rotation state of the secret."""
    from registration_persistence.database.credentials.secret_description import SecretDescriber

    settings = facts.settings
    describer = SecretDescriber(
        settings.secret_arn or "", region=settings.secret_region, only_aws=not is_relaxed(settings.environment)
    )
    try:
        description = describer.describe()
    except SecretRefused:
        return skipped(
            ROTATION,
            "this process may not call secretsmanager:DescribeSecret, which the service does not need; an operator may",
        )
    return rotation_state(description, datetime.now(UTC))


def rotation_state(description: Mapping[str, Any], now: datetime) -> Check:
    """Return the result for a response of DescribeSecret.

    Args:
        description: The response.
        now: The present time.
    """
    changed = description.get("LastRotatedDate") or description.get("LastChangedDate") or description.get("CreatedDate")
    age = f"the password is {counted(max((now - changed).days, 0), 'day')} old" if changed else "its age is unknown"
    if deleted := description.get("DeletedDate"):
        fix = "aws secretsmanager restore-secret --secret-id ARN"
        return failed(ROTATION, f"the secret is scheduled for deletion since {deleted:%Y-%m-%d}", fix)
    stages = description.get("VersionIdsToStages") or {}
    pending = [version for version, labels in stages.items() if "AWSPENDING" in labels and "AWSCURRENT" not in labels]
    if pending:
        return warning(
            ROTATION,
            f"a version is AWSPENDING ({pending[0]}): a rotation is under way, or stuck; {age}",
            f"if it is still there in ten minutes, {_RUNBOOK}, section 4",
        )
    if not description.get("RotationEnabled"):
        return warning(ROTATION, f"off; {age}", "turn rotation on: docs/howto/rotation.md")
    upcoming = description.get("NextRotationDate")
    if upcoming and now - upcoming > _OVERDUE_AFTER:
        return failed(ROTATION, f"due since {upcoming:%Y-%m-%d}, and not done; {age}", f"{_RUNBOOK}, section 4")
    return ok(ROTATION, f"on; {age}; next {f'on {upcoming:%Y-%m-%d}' if upcoming else 'at an unknown time'}")
