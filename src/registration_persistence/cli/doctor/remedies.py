"""`remedy`: the fix for each error of connecting and of statements."""

from collections.abc import Mapping

from registration_persistence.errors import (
    ConnectionLost,
    ConnectionRejected,
    CredentialsRejected,
    DatabaseUnavailable,
    LockTimeout,
    PoolExhausted,
    RegistrationPersistenceError,
    SecretMalformed,
    SecretRefused,
    SecretUnavailable,
    StatementTimeout,
    TooManyConnections,
    WriterMoved,
)

# A subclass comes before its base class.
_REMEDIES: Mapping[type[RegistrationPersistenceError], str] = {
    SecretRefused: (
        "allow secretsmanager:GetSecretValue for the secret and kms:Decrypt for its key, and check "
        "APP_DATABASE_SECRET_ARN"
    ),
    SecretUnavailable: (
        "give this process AWS credentials, and reach Secrets Manager: through a VPC endpoint or a NAT gateway, with "
        "the security group open for port 443"
    ),
    SecretMalformed: "store a JSON object with username and password in the secret",
    CredentialsRejected: (
        "compare the secret with the password of the role; docs/runbooks/rotate-at-once.md, or bootstrap, sets it again"
    ),
    ConnectionRejected: "correct the setting that the message names; docs/configuration.md describes each one",
    TooManyConnections: "docs/runbooks/raise-capacity.md: raise the capacity, or lower the number of processes",
    DatabaseUnavailable: (
        "see the state of the cluster in the RDS console: after a failover or a pause wait a minute, and run doctor "
        "again with a larger --timeout"
    ),
    PoolExhausted: "run doctor again",
    LockTimeout: "run doctor again; a migration or a VACUUM FULL may hold the lock",
    StatementTimeout: "the server is overloaded or a lock is held: see pg_stat_activity, and run doctor again",
    WriterMoved: "a failover is under way: run doctor again in a minute",
    ConnectionLost: "a failover or a restart may be under way: run doctor again in a minute",
}


def remedy(error: RegistrationPersistenceError) -> str:
    """Return the fix for *error*."""
    return next(
        (fix for kind, fix in _REMEDIES.items() if isinstance(error, kind)), "docs/limits.md describes this error"
    )
