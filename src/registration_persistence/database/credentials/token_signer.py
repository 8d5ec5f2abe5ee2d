"""`TokenSigner`: signs tokens of IAM with the AWS credentials of this process, without a call to AWS."""

from typing import Any

from registration_persistence.database.deadlines import remaining
from registration_persistence.database.log_redaction import redact_logs
from registration_persistence.errors import SecretRefused, SecretUnavailable

TOKEN_SECONDS = 900
"""The time that RDS accepts a token after it was signed."""

# A token that is handed out must survive the connection attempt.
_EXPIRY_MARGIN_SECONDS = 10

# The limits of a call to STS: with botocore's defaults it would take minutes.
_MIN_CALL_SECONDS, _MAX_CALL_SECONDS = 1.0, 5.0

_SERVICE = "rds-db"

# The AWS SDK raises some errors about its credentials as they are; RuntimeError if new credentials are expired already.
_SDK_ERRORS = (OSError, ValueError, LookupError, RuntimeError, AttributeError, TypeError)

_FIX = (
    "give the process a role (Lambda, ECS and EC2 do that), or set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for "
    "temporary credentials, AWS_SESSION_TOKEN"
)


class TokenSigner:
    """Signs tokens for one role at one endpoint.

    Args:
        user: The role that logs in.
        host: The endpoint, in any case, also with a dot at its end.
        port: The port of the endpoint.
        region: The AWS region of the endpoint.
    """

    def __init__(self, user: str, *, host: str, port: int, region: str) -> None:
        # RDS compares the signature with the name of the endpoint in lower case.
        self._user, self._endpoint, self._region = user, f"{host.lower().removesuffix('.')}:{port}", region
        self._aws: Any = None  # botocore's credentials; the library has no types

    def sign(self) -> str:
        """Return a new token, and load the AWS credentials if none are known.

        Raises:
            SecretUnavailable: There are no AWS credentials, or they could not be loaded this time.
            SecretRefused: The configuration files of AWS are wrong.
        """
        from botocore.exceptions import BotoCoreError

        redact_logs()
        try:
            self._aws = self._aws or _load_credentials()
            if self._aws is not None:
                # No variable holds the credentials, because this frame is part of the traceback of the errors below.
                return _signed(self._aws.get_frozen_credentials(), self._user, self._endpoint, self._region)
            reason: str | None = None
        except (BotoCoreError, *_SDK_ERRORS) as error:
            self._aws = None
            failure, reason = _meaning_of(error), str(error)
        if reason is None:
            raise SecretUnavailable(self._message(f"this process has no AWS credentials: {_FIX}"))
        raise failure(self._message(reason))

    def is_expiring(self) -> bool:
        """Return whether the AWS credentials expire, and with them the tokens that they signed."""
        from botocore.credentials import RefreshableCredentials

        if not isinstance(self._aws, RefreshableCredentials):
            return False  # they do not expire, or do not say when
        return bool(self._aws.refresh_needed(refresh_in=_EXPIRY_MARGIN_SECONDS))

    def forget_credentials(self) -> None:
        """Forget the AWS credentials, so that the next token is signed with those that the process has then."""
        self._aws = None

    def _message(self, reason: str) -> str:
        return f"cannot sign a token for {self._user!r} at {self._endpoint}: {' '.join(reason.split()).rstrip('.')}"


def _load_credentials() -> Any:
    """Return the credentials that botocore finds, from the environment, files or a metadata service; or `None`."""
    from botocore.config import Config
    from botocore.session import Session

    # On Lambda, ECS and EC2 this makes no call to AWS. Some configurations ask STS for the credentials of another role.
    seconds = min(max(remaining(), _MIN_CALL_SECONDS), _MAX_CALL_SECONDS)
    session = Session()
    session.set_default_client_config(
        Config(connect_timeout=seconds * 0.4, read_timeout=seconds * 0.6, retries={"total_max_attempts": 1})
    )
    return session.get_credentials()


def _signed(credentials: Any, user: str, endpoint: str, region: str) -> str:
    from botocore.auth import SigV4QueryAuth
    from botocore.awsrequest import AWSRequest

    request = AWSRequest("GET", f"https://{endpoint}/", data={"Action": "connect", "DBUser": user})
    SigV4QueryAuth(credentials, _SERVICE, region, expires=TOKEN_SECONDS).add_auth(request)
    return str(request.url).removeprefix("https://")


def _meaning_of(error: Exception) -> type[SecretUnavailable]:
    """Return the class of our error for *error*; temporary, unless it is known to be permanent."""
    from botocore.exceptions import ConfigParseError, PartialCredentialsError, ProfileNotFound

    permanent = isinstance(error, ProfileNotFound | ConfigParseError | PartialCredentialsError)
    return SecretRefused if permanent else SecretUnavailable
