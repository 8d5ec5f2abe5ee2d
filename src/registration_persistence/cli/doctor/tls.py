"""TLS: whether the server has it, and whether its certificate is verified and still valid for long enough."""

import ssl
from datetime import UTC, datetime

from registration_persistence.cli.doctor.check import Check, failed, ok, warning
from registration_persistence.cli.doctor.facts import Facts
from registration_persistence.database import DatabaseSettings
from registration_persistence.database.deadlines import remaining
from registration_persistence.database.environment_rules import is_relaxed
from registration_persistence.database.presented_certificate import (
    PresentedCertificate,
    TlsRefused,
    presented_certificate,
    tls_handshake,
)
from registration_persistence.database.server_refusal import certificate_fix
from registration_persistence.quantities import counted

NAME = "TLS"

_NOTICE_DAYS = 30

# The share of the time of the check for each of its two handshakes.
_SHARE = 0.45

# OpenSSL's codes of a certificate for another name or another address.
_NAME_MISMATCHES = (62, 64)


def tls_check(facts: Facts) -> Check:
    """Make a TLS handshake with the server, as libpq does before a login."""
    settings = facts.settings
    if not facts.addresses[0]:
        return ok(NAME, "not used on a Unix socket")
    if settings.sslmode == "disable":
        return ok(NAME, f"off: APP_DATABASE_SSLMODE is disable, which {settings.environment} allows")
    context = _context_of(settings)
    return context if isinstance(context, Check) else _handshake_check(facts, context, remaining() * _SHARE)


def _handshake_check(facts: Facts, context: ssl.SSLContext, seconds: float) -> Check:
    settings = facts.settings
    try:
        shaken = tls_handshake(_host(settings), facts.addresses[0], settings.port, seconds=seconds, context=context)
    except TlsRefused:
        return _without_tls(settings)
    except ssl.SSLCertVerificationError as error:
        return _unverified(facts, error, seconds)
    except TimeoutError:
        # The login has more time, and its error says how far it came.
        return warning(
            NAME,
            f"the server accepts the connection, and is silent for {seconds:.1f} s",
            "a paused Aurora cluster resumes in about 15 s, after a day in 30 s or more: run doctor again",
        )
    except (OSError, ValueError, IndexError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        return failed(NAME, f"the handshake failed: {reason}", "check that PostgreSQL listens on this port")
    return verified_check(settings, shaken.certificate, shaken.protocol, datetime.now(UTC))


def _context_of(settings: DatabaseSettings) -> ssl.SSLContext | Check:
    """Return the rules of the settings for the certificate."""
    file, context = settings.root_certificate, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = file is not None and settings.sslmode == "verify-full"
    context.verify_mode = ssl.CERT_NONE if file is None else ssl.CERT_REQUIRED
    try:
        if file is not None:
            context.load_verify_locations(file)
    except OSError as error:
        return failed(
            NAME,
            f"the root certificates in {file} cannot be read: {error.strerror or error}",
            "set APP_DATABASE_SSL_ROOT_CERT to a readable PEM file, or unset it for a host of RDS",
        )
    return context


def verified_check(
    settings: DatabaseSettings, certificate: PresentedCertificate, protocol: str, now: datetime
) -> Check:
    """Return the result for a certificate that the handshake accepted.

    Args:
        settings: The settings, which tell how it was verified.
        certificate: The certificate.
        protocol: The version of TLS.
        now: The present time.
    """
    days = (certificate.expires - now).days
    until = f"ends on {certificate.expires:%Y-%m-%d}, in {counted(max(days, 0), 'day')}"
    described = f"{protocol}, certificate of {certificate.subject!r} by {certificate.issuer!r}, {until}"
    if settings.root_certificate is None:
        found = f"{described}; not verified ({settings.sslmode})"
        if is_relaxed(settings.environment):
            return ok(NAME, found)
        fix = "set APP_DATABASE_SSL_ROOT_CERT to the authority of the server, which turns on verify-full"
        return warning(NAME, found, fix)
    found = f"{described}; verified ({settings.sslmode})"
    if days < _NOTICE_DAYS:
        fix = "renew the certificate of the server; RDS does so itself, with a restart on some versions"
        return warning(NAME, found, fix)
    return ok(NAME, found)


def _without_tls(settings: DatabaseSettings) -> Check:
    if settings.sslmode in {"allow", "prefer"}:
        return ok(NAME, f"the server has no TLS, which APP_DATABASE_SSLMODE={settings.sslmode} allows")
    return failed(
        NAME,
        f"the server has no TLS, and APP_DATABASE_SSLMODE is {settings.sslmode}",
        "turn on ssl at the server; RDS always has TLS, so another server may answer in its place",
    )


def _unverified(facts: Facts, error: ssl.SSLCertVerificationError, seconds: float) -> Check:
    settings = facts.settings
    found = presented_certificate(_host(settings), facts.addresses[0], settings.port, seconds=seconds)
    presented = (
        f"certificate of {found.subject!r} by {found.issuer!r}, valid from {found.valid_from:%Y-%m-%d} to "
        f"{found.expires:%Y-%m-%d}, "
        if found
        else ""
    )
    return failed(
        NAME,
        f"{presented}not verified against {settings.root_certificate} ({settings.sslmode}): {error.verify_message}",
        certificate_fix(found, for_another_name=error.verify_code in _NAME_MISMATCHES),
    )


def _host(settings: DatabaseSettings) -> str:
    return settings.host.removesuffix(".")
