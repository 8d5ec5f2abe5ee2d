"""The parameters of every connection, also those that libpq would take from the environment or the home directory."""

import math
import os
from collections.abc import Mapping
from typing import Any

from psycopg import pq

from registration_persistence.database.environment_rules import is_relaxed
from registration_persistence.database.settings import DatabaseSettings
from registration_persistence.database.tls_rules import RequireAuth
from registration_persistence.errors import ConfigurationError

# An idle connection is probed after 30 s, and given up after three unanswered probes.
_KEEPALIVES = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 5, "keepalives_count": 3}

# The time that sent data may stay unacknowledged. Keepalives do not watch over a running statement: on a network that
# drops packets, one hung for more than 40 s without this limit, and failed after 4.4 s with a limit of 4 s.
_TCP_USER_TIMEOUT_MILLISECONDS = 5_000

# libpq looks for its default files in the home directory if a path is empty. A path below a file cannot exist, also not
# for a user who may read every directory.
_NO_FILE = f"{os.devnull}/none"

# libpq takes a missing parameter from a variable or a file. These have no effect, or are its own defaults.
_LIBPQ_DEFAULTS: Mapping[str, str] = {
    "channel_binding": "prefer",
    "gssdelegation": "0",
    "gssencmode": "disable",
    "gsslib": "",
    "hostaddr": "",
    "krbsrvname": "postgres",
    "load_balance_hosts": "disable",
    "max_protocol_version": "3.0",
    "min_protocol_version": "3.0",
    "options": "",
    "passfile": _NO_FILE,
    "requirepeer": "",
    "ssl_max_protocol_version": "",
    "ssl_min_protocol_version": "TLSv1.2",
    "sslcert": _NO_FILE,
    "sslcertmode": "disable",
    "sslcompression": "0",
    "sslcrl": _NO_FILE,
    "sslcrldir": "",
    "sslkey": _NO_FILE,
    "sslnegotiation": "postgres",
    "sslrootcert": _NO_FILE,
    "sslsni": "1",
}

# The methods that libpq accepts, by the weakest one that the settings allow. With SCRAM, the server does not learn the
# password, and has to prove that it knows it.
_ACCEPTED_METHODS: Mapping[RequireAuth, str] = {
    "scram-sha-256": "scram-sha-256",
    "md5": "scram-sha-256,md5",
    "password": "scram-sha-256,md5,password",
}


def connection_parameters(settings: DatabaseSettings) -> dict[str, Any]:
    """Return psycopg's and libpq's parameters for every connection, without user and password.

    Raises:
        ConfigurationError: libpq is older than version 16, so it would send the password in clear text if asked for it;
            or older than version 17, if it has to begin with TLS at once; or it cannot offer other TLS groups.
    """
    known = {default.keyword.decode() for default in pq.Conninfo.get_defaults()}
    required = {"require_auth": 160_000} | ({"sslnegotiation": 170_000} if settings.ssl_negotiation == "direct" else {})
    for name, version in required.items():
        if name not in known:
            problem = f"libpq has the version {pq.version()}: expected {version} or later"
            raise ConfigurationError([f"{problem}: install psycopg[binary], which includes it"])
    if settings.tls_groups:
        from registration_persistence.database.openssl_groups import offer_groups

        offer_groups(settings.tls_groups)
    parameters: dict[str, Any] = {
        **{name: value for name, value in _LIBPQ_DEFAULTS.items() if name in known},
        "sslmode": settings.sslmode,
        # RDS asks for a token in clear text. If it asks for SCRAM, the role has no right to log in with IAM.
        "require_auth": "password" if settings.auth == "iam" else _ACCEPTED_METHODS[settings.require_auth],
        "client_encoding": "utf8",
        "application_name": settings.application_name,
        "connect_timeout": math.ceil(settings.connect_timeout),  # libpq takes whole seconds
        "tcp_user_timeout": _TCP_USER_TIMEOUT_MILLISECONDS,
        "target_session_attrs": "read-write",
        **_KEEPALIVES,
    }
    if is_relaxed(settings.environment):  # local servers and poolers may trust their clients
        parameters["require_auth"] += ",none"
    if settings.ssl_negotiation == "direct":
        parameters["sslnegotiation"] = "direct"
    if settings.root_certificate:
        parameters["sslrootcert"] = str(settings.root_certificate)
    if settings.pool == "proxy":
        # A pooler runs the statements of one client on different connections, and rejects startup options.
        return parameters | {"prepare_threshold": None}
    limits = {
        "statement_timeout": settings.statement_timeout,
        "lock_timeout": settings.lock_timeout,
        "idle_in_transaction_session_timeout": settings.idle_in_transaction_timeout,
    }
    if settings.idle_session_timeout:  # otherwise the limit of the role or the cluster applies
        limits["idle_session_timeout"] = settings.idle_session_timeout
    # psycopg parses only these styles, and a role or database may be configured for others.
    styles = ["-c datestyle=ISO", "-c intervalstyle=postgres"]
    options = [*styles, *(f"-c {name}={round(limit * 1000)}" for name, limit in limits.items())]
    return parameters | {"options": " ".join(options)}
