"""`explained`: the error of a server that this client refused, with the file, the authority and the fix."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from registration_persistence.database.deadlines import remaining
from registration_persistence.database.presented_certificate import PresentedCertificate, presented_certificate
from registration_persistence.database.tls_rules import VERIFYING
from registration_persistence.database.waits import CallUnfinished, Waits
from registration_persistence.errors import ConnectionRejected, DatabaseUnavailable, RegistrationPersistenceError
from registration_persistence.lazy_pattern import lazy_pattern

# The time to ask the server for its certificate once more, if the deadline leaves as much.
_MAX_HANDSHAKE_SECONDS = 2.0

_CERTIFICATE = lazy_pattern(
    r"certificate verify failed|root certificate file|server certificate|SSL certificate"
    r"|certificate could not be obtained"
)
_FILE = lazy_pattern(r"root certificate file")
_NAME = lazy_pattern(r"does not match host name|host name .* server certificate|name contains embedded null")

# A server that does not know the first message of the client closes the connection, as a starting one may do.
_CLOSED = lazy_pattern(
    r"unexpected eof|closed the connection unexpectedly|Connection reset|SSL SYSCALL error|SSL error"
)
_DIRECT_FIX = (
    "APP_DATABASE_SSL_NEGOTIATION is 'direct': if the server is older than PostgreSQL 17, a pooler or without TLS, "
    "unset it"
)

# libpq's own advice, which includes to verify nothing.
_ADVICE_OF_LIBPQ = lazy_pattern(r" ?Either provide the file[^;]*")

_LOGIN = lazy_pattern(r'authentication method requirement "[^"]*" failed: (?P<reason>[^;]*)')
_CLEAR_TEXT, _MD5 = "cleartext password", "hashed password"


def explained(
    failure: RegistrationPersistenceError, parameters: Mapping[str, Any], address: str, waits: Waits
) -> RegistrationPersistenceError:
    """Return *failure*; if this client refused the server, with the reason and the fix in its message.

    Args:
        failure: The error of an attempt to connect.
        parameters: libpq's parameters of the attempt.
        address: The IP address of the server.
        waits: The waits of the engine.
    """
    if isinstance(failure, DatabaseUnavailable) and parameters.get("sslnegotiation") == "direct":
        return _with_message(failure, f"{failure}; {_DIRECT_FIX}") if _CLOSED.search(str(failure)) else failure
    if not isinstance(failure, ConnectionRejected):
        return failure
    text = _ADVICE_OF_LIBPQ.sub("", str(failure))
    if parameters["sslmode"] in VERIFYING and _CERTIFICATE.search(text):
        return _with_message(failure, f"{text}; {_certificate_explanation(text, parameters, address, waits)}")
    if login := _LOGIN.search(text):
        return _with_message(failure, f"{text}; {_login_fix(login['reason'], parameters['require_auth'])}")
    return failure


def _with_message(failure: RegistrationPersistenceError, message: str) -> RegistrationPersistenceError:
    error = type(failure)(message)
    error.__cause__ = failure.__cause__
    return error


def _certificate_explanation(text: str, parameters: Mapping[str, Any], address: str, waits: Waits) -> str:
    seconds = min(remaining(), _MAX_HANDSHAKE_SECONDS)
    host, port = parameters["host"], int(parameters["port"])
    found = None
    with suppress(CallUnfinished):  # the deadline came first
        found = waits.call(presented_certificate, host, address, port, seconds=seconds)
    presented = (
        f"the server presents the certificate of {found.subject!r}, issued by the authority {found.issuer!r} and valid "
        f"from {found.valid_from:%Y-%m-%d} to {found.expires:%Y-%m-%d}"
        if found
        else "the certificate of the server and its authority could not be read"
    )
    file = parameters.get("sslrootcert")
    return (
        f"{presented}; it is verified against the authorities in {file} ({parameters['sslmode']}): {_fix(text, found)}"
    )


def _fix(text: str, found: PresentedCertificate | None) -> str:
    if _FILE.search(text):
        return "set APP_DATABASE_SSL_ROOT_CERT to a readable PEM file that holds the certificate of that authority"
    return certificate_fix(found, for_another_name=_NAME.search(text) is not None)


def certificate_fix(found: PresentedCertificate | None, *, for_another_name: bool) -> str:
    """Return the fix for a certificate that was not accepted.

    Args:
        found: The certificate, if it could be read.
        for_another_name: Whether it is that of another host.
    """
    now = datetime.now(UTC)
    if for_another_name:
        return (
            "set APP_DATABASE_HOST to the name in the certificate, for RDS the endpoint itself, because an alias or an "
            "address in front of it cannot be verified"
        )
    if found and found.expires < now:
        return "renew the certificate of the server, or correct the clock of this machine"
    if found and found.valid_from > now:
        return "correct the clock of the server or of this machine"
    if found and found.is_self_issued:
        return (
            "it signed itself; if this is your server, set APP_DATABASE_SSL_ROOT_CERT to a PEM file with this "
            "certificate; otherwise another server answers in its place"
        )
    return (
        "if this is your server, set APP_DATABASE_SSL_ROOT_CERT to a PEM file with the root certificate of that "
        "authority; otherwise another server answers in its place"
    )


def _login_fix(reason: str, required: str) -> str:
    if required == "password":
        return (
            "the token was not sent; RDS asks for it in clear text if the role is a member of rds_iam and IAM "
            "authentication is enabled for the cluster: enable it, and run `registration-persistence bootstrap` with "
            "APP_DATABASE_APPLICATION_USER, or GRANT rds_iam TO the role"
        )
    if _CLEAR_TEXT in reason:
        return (
            "the password was not sent; if the role logs in with IAM, PAM or LDAP, set APP_DATABASE_REQUIRE_AUTH to "
            "password and APP_DATABASE_SSLMODE to verify-full"
        )
    if _MD5 in reason:
        return (
            "the password was not sent; set password_encryption to scram-sha-256 on the server and set the password of "
            "the role again, or set APP_DATABASE_REQUIRE_AUTH to md5"
        )
    return (
        f"expected {required.replace(',', ' or ')}; correct the method in pg_hba.conf or the pooler, unless another "
        "server answers in its place"
    )
