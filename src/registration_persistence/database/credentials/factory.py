"""`credentials_for`: the credential source that the settings select."""

from registration_persistence.database.credentials.source import Credentials, CredentialSource, StaticCredentials
from registration_persistence.database.environment_rules import is_relaxed
from registration_persistence.database.events import EventCallback
from registration_persistence.database.settings import DatabaseSettings


def credentials_for(settings: DatabaseSettings, *, on_event: EventCallback) -> CredentialSource:
    """Return the source for *settings*: tokens of IAM, user and password as in `test` and `local`, or the secret.

    Args:
        settings: The settings of the database.
        on_event: Called with the name of a `DatabaseEvent`, its cause and its duration in seconds.
    """
    if settings.auth == "iam":
        from registration_persistence.database.credentials.iam_tokens import IamTokens
        from registration_persistence.database.endpoint_region import endpoint_region

        region = endpoint_region(settings.host) or ""  # the settings have checked that there is one
        return IamTokens(settings.user or "", host=settings.host, port=settings.port, region=region)
    if settings.user and settings.password:
        return StaticCredentials(Credentials(settings.user, settings.password))
    from registration_persistence.database.credentials.rotation_bridge import RotationBridge

    arn, extension = settings.secret_arn or "", None
    if settings.secret_source == "extension":  # noqa: S105 it is no secret
        from registration_persistence.database.credentials.lambda_extension import LambdaExtension

        extension = LambdaExtension(arn)
    return RotationBridge(
        arn,
        region=settings.secret_region,
        on_event=on_event,
        only_aws=not is_relaxed(settings.environment),
        extension=extension,
    )
