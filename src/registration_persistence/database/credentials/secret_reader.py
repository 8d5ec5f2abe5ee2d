"""`SecretReader`: reads a database secret from Secrets Manager, with one call that ends within a time limit."""

import logging
import math
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from registration_persistence.database.certificates import AMAZON_TRUST_SERVICES
from registration_persistence.database.credentials.aws_endpoint import refuse_another_server
from registration_persistence.database.credentials.secret_value import MalformedSecret, Secret, Stage, parse_secret
from registration_persistence.database.credentials.source import Credentials
from registration_persistence.database.deadlines import remaining
from registration_persistence.database.log_redaction import redact_logs
from registration_persistence.database.secret_arn import SECRET_ARN, arn_problem
from registration_persistence.errors import ConfigurationError, SecretMalformed, SecretRefused, SecretUnavailable

# The limits that one call can have. The longest one that ends before the deadline is used: with botocore's defaults,
# 60 s to connect and 60 s to read, Lambda would end the process first.
_CALL_TIMEOUTS_SECONDS = (5.0, 2.0, 0.8, 0.3)

_THROTTLING_ERRORS = ("ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded")

# The credentials were valid, or the clock of this machine was wrong; a new session may have others.
_EXPIRED_CREDENTIALS = ("ExpiredTokenException", "ExpiredToken", "RequestExpired", "InvalidSignatureException")

_UNKNOWN_CREDENTIALS = ("UnrecognizedClientException", "InvalidClientTokenId", "SignatureDoesNotMatch")

# The AWS SDK raises some errors about its credentials as they are; RuntimeError if new credentials are expired already.
_SDK_ERRORS = (OSError, ValueError, LookupError, RuntimeError, AttributeError, TypeError)

_CLIENT_ERROR_STATUSES = range(400, 500)

# The partition whose endpoints have certificates of Amazon Trust Services.
_PARTITION_OF_AMAZON = "arn:aws:"

_logger = logging.getLogger("registration_persistence.database")


class SecretReader:
    """Reads versions of one secret.

    Args:
        arn: The ARN of the secret.
        region: The region of the secret, from which the endpoint and its partition follow.
        only_aws: Whether another server is refused, if a variable or a file of the AWS SDK leads to it. Defaults to
            false.
    """

    def __init__(self, arn: str, *, region: str, only_aws: bool = False) -> None:
        self._arn, self._region, self._only_aws = arn, region, only_aws
        self._session: Any = None  # botocore's; the library has no types
        self._clients: dict[float, Any] = {}  # one for each time limit, because botocore sets it per client
        # Whether the server is verified with the roots of Amazon alone, instead of the 118 of botocore.
        self._trusts_only_amazon = arn.startswith(_PARTITION_OF_AMAZON)

    def read(self, stage: Stage, *, timeout: float = math.inf) -> Secret | MalformedSecret:
        """Read the version at *stage* with one GetSecretValue call.

        A malformed secret is a return value: the traceback of an error raised while parsing would show the secret.

        Args:
            stage: The staging label of the version.
            timeout: Limit in seconds, in addition to the deadline. Defaults to 5 s.

        Raises:
            SecretUnavailable: Secrets Manager did not answer, or answered with a temporary error.
            SecretRefused: The secret does not exist, or this process may not read it.
        """
        from botocore.exceptions import BotoCoreError, ClientError, SSLError

        try:
            try:
                return self._read(stage, timeout)
            except SSLError as error:
                if not self._trusts_more_after(error):
                    raise
            return self._read(stage, timeout)
        except SecretRefused as error:
            raise error.with_traceback(None)  # noqa: B904 it is the same error; its frames hold the signed request
        except (BotoCoreError, ClientError, *_SDK_ERRORS) as error:
            if _may_concern_credentials(error):
                self.forget_session()
            raise _meaning_of(error, self._arn) from error.with_traceback(None)

    def drop_clients(self) -> None:
        """Forget the clients and their connections, which did not survive a snapshot."""
        self._clients = {}

    def forget_session(self) -> None:
        """Forget the session and the clients: they keep the AWS credentials, or the lack of any, that they began with.

        After a fork, the parent process may use their sockets and locks.
        """
        self._session = None
        self._clients = {}

    def _read(self, stage: Stage, timeout: float) -> Secret | MalformedSecret:
        # No variable holds the response, because this frame is part of the traceback of errors.
        return parse_secret(
            self._client(timeout).get_secret_value(SecretId=self._arn, VersionStage=stage), self._arn, stage
        )

    def _authorities(self) -> str | None:
        """Return the file of the authorities that sign the server's certificate; `None` to leave them to botocore."""
        has_own = os.environ.get("REQUESTS_CA_BUNDLE") or self._session.get_config_variable("ca_bundle")
        return str(AMAZON_TRUST_SERVICES) if self._trusts_only_amazon and not has_own else None

    def _trusts_more_after(self, error: Exception) -> bool:
        """Trust the authorities of botocore too if only those of Amazon were, and the server has another."""
        if "CERTIFICATE_VERIFY_FAILED" not in str(error) or self._authorities() is None:
            return False
        self._trusts_only_amazon = False
        self.drop_clients()
        _logger.warning(
            "the certificate of Secrets Manager is not signed by Amazon Trust Services, so it is verified with the "
            "authorities of botocore: if a proxy decrypts the traffic, set AWS_CA_BUNDLE to its authority"
        )
        return True

    def _client(self, timeout: float = math.inf) -> Any:  # the library has no types
        """Return a client whose call ends within *timeout* and before the deadline."""
        from botocore.config import Config

        redact_logs()
        # Creating the first client takes time, more so in a small function, so the limit is chosen again after it.
        while (seconds := _longest_call(min(remaining(), timeout))) not in self._clients:
            self._session = self._session or _new_session(self._region)
            config = Config(
                connect_timeout=seconds * 0.4, read_timeout=seconds * 0.6, retries={"total_max_attempts": 1}
            )
            client = self._session.create_client("secretsmanager", config=config, verify=self._authorities())
            if self._only_aws:
                client.meta.events.register(
                    "before-send.secretsmanager", partial(refuse_another_server, self._arn, self._region)
                )
            self._clients[seconds] = client
        return self._clients[seconds]


def _new_session(region: str) -> Any:
    """Return a session that finds configuration and credentials like one of boto3, which loads 50 modules more."""
    from botocore.session import Session

    session = Session()
    session.set_config_variable("region", region)
    return session


def _longest_call(limit: float) -> float:
    """Return the longest time limit of a call, in seconds, that ends within *limit*; the shortest one if none does."""
    return next((choice for choice in _CALL_TIMEOUTS_SECONDS if choice <= limit), _CALL_TIMEOUTS_SECONDS[-1])


def read_secret(arn: str, *, name: str = "the secret's ARN", only_aws: bool = False) -> Credentials:
    """Return the current credentials of any secret, with one call.

    Args:
        arn: The ARN of the secret.
        name: Subject of an error about *arn*, for example the variable that it was read from.
        only_aws: Whether another server than AWS is refused. Defaults to false.

    Raises:
        ConfigurationError: *arn* is not the ARN of a secret.
        SecretUnavailable: Secrets Manager did not answer, or answered with a temporary error.
        SecretRefused: The secret does not exist, or this process may not read it.
        SecretMalformed: The secret is not a JSON object with a user name and a password.
    """
    if problem := arn_problem(arn, name):
        raise ConfigurationError([problem])
    match = SECRET_ARN.fullmatch(arn)
    assert match is not None
    outcome = SecretReader(arn, region=match["region"], only_aws=only_aws).read("AWSCURRENT")
    if isinstance(outcome, MalformedSecret):
        raise SecretMalformed(outcome.problem)
    return outcome.credentials


def _meaning_of(error: Exception, arn: str) -> SecretUnavailable:
    """Return our error for *error*; temporary, unless it is known to be permanent."""
    from botocore.exceptions import ClientError, ConfigParseError, NoCredentialsError, ProfileNotFound

    meaning, fix = SecretUnavailable, ""
    if isinstance(error, ClientError) and _is_permanent(error.response):
        meaning, fix = SecretRefused, ": check the ARN, and allow secretsmanager:GetSecretValue and kms:Decrypt"
    elif isinstance(error, ProfileNotFound | ConfigParseError):
        meaning, fix = SecretRefused, ": correct AWS_PROFILE and the configuration files of AWS"
    elif isinstance(error, NoCredentialsError):  # the metadata service that has them may not respond yet
        fix = ": give the process AWS credentials"
    return meaning(f"cannot read the secret {arn}: {error}{fix}")


def _may_concern_credentials(error: Exception) -> bool:
    """Return whether *error* may be due to the AWS credentials of this process, so that others may help."""
    from botocore.exceptions import ClientError, HTTPClientError
    from botocore.exceptions import ConnectionError as EndpointError

    if isinstance(error, ClientError):
        return error.response.get("Error", {}).get("Code") in (*_EXPIRED_CREDENTIALS, *_UNKNOWN_CREDENTIALS)
    return not isinstance(error, HTTPClientError | EndpointError)


def _is_permanent(response: Mapping[str, Any]) -> bool:
    """Return whether a retry cannot help: a client error such as a missing permission, and no temporary one."""
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    code = response.get("Error", {}).get("Code")
    return status in _CLIENT_ERROR_STATUSES and code not in (*_THROTTLING_ERRORS, *_EXPIRED_CREDENTIALS)
