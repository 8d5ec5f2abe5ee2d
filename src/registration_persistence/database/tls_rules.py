"""The rules for TLS and for the login: which server is verified, and how it may ask for the password."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from registration_persistence.database.certificates import root_certificate_for

SslMode: TypeAlias = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

RequireAuth: TypeAlias = Literal["scram-sha-256", "md5", "password"]

SslNegotiation: TypeAlias = Literal["postgres", "direct"]

# Every OpenSSL 3 has these, and a server of PostgreSQL may have each. OpenSSL ignores a name that it does not know.
_TLS_GROUPS = ("P-256", "P-384", "P-521", "X25519", "X448")

_ENCRYPTING: tuple[SslMode, ...] = ("require", "verify-ca", "verify-full")

VERIFYING: tuple[SslMode, ...] = ("verify-ca", "verify-full")
"""The modes that verify the server's certificate."""


def sslmode_of(values: Mapping[str, Any]) -> SslMode:
    """Return the `sslmode` of *values*; without one, `verify-full` if there is a root certificate for the host.

    Args:
        values: The settings by name, also invalid ones.
    """
    mode: SslMode | None = values.get("sslmode")
    if mode is not None:
        return mode
    host = values.get("host")
    shipped = root_certificate_for(host) if isinstance(host, str) else None
    return "verify-full" if values.get("ssl_root_cert") or shipped else "require"


def require_auth_of(values: Mapping[str, Any]) -> RequireAuth:
    """Return the `require_auth` of *values*; without one, `password` for IAM, otherwise `scram-sha-256`.

    Args:
        values: The settings by name, also invalid ones.
    """
    method: RequireAuth | None = values.get("require_auth")
    if method is not None:
        return method
    return "password" if values.get("auth") == "iam" else "scram-sha-256"


def tls_problems(values: Mapping[str, Any], *, relaxed: bool) -> Iterator[str]:
    """Yield each problem of `sslmode`, root certificate and `require_auth`, as one sentence.

    Args:
        values: The settings by name.
        relaxed: Whether data and password may be sent to a server that is not verified, as in `test` and `local`.
    """
    mode = sslmode_of(values)
    if mode not in get_args(SslMode):
        yield f"APP_DATABASE_SSLMODE is {mode!r}: expected one of {', '.join(get_args(SslMode))}"
    elif mode not in _ENCRYPTING and not relaxed:
        yield (
            f"APP_DATABASE_SSLMODE is {mode!r}, which can send data without TLS: expected {', '.join(_ENCRYPTING)}, "
            "unless APP_ENVIRONMENT is test or local"
        )
    yield from _negotiation_problems(values.get("ssl_negotiation", "postgres"), mode)
    yield from _group_problems(values.get("tls_groups"))
    yield from _certificate_problems(values.get("ssl_root_cert"), mode, values)
    if values.get("auth") != "iam":
        yield from _login_problems(require_auth_of(values), mode, relaxed=relaxed)


def _negotiation_problems(negotiation: object, mode: SslMode) -> Iterator[str]:
    if negotiation not in get_args(SslNegotiation):
        yield f"APP_DATABASE_SSL_NEGOTIATION is {negotiation!r}: expected one of {', '.join(get_args(SslNegotiation))}"
    elif negotiation == "direct" and mode in get_args(SslMode) and mode not in _ENCRYPTING:
        yield (
            f"APP_DATABASE_SSL_NEGOTIATION is 'direct' but APP_DATABASE_SSLMODE is {mode!r}, which can send data "
            f"without TLS: expected {', '.join(_ENCRYPTING)}"
        )


def _group_problems(text: str | None) -> Iterator[str]:
    groups = text.split(":") if text else []
    if set(groups) - set(_TLS_GROUPS) or len(groups) != len(set(groups)):
        expected = f"different ones of {', '.join(_TLS_GROUPS)}, separated by colons"
        yield f"APP_DATABASE_TLS_GROUPS is {text!r}: expected {expected}"


def _certificate_problems(certificate: str | None, mode: SslMode, values: Mapping[str, Any]) -> Iterator[str]:
    if certificate and not _is_file(certificate):
        yield f"APP_DATABASE_SSL_ROOT_CERT is {certificate!r}, which is not a file: expected a PEM file"
    elif certificate and not certificate.isprintable():
        yield "APP_DATABASE_SSL_ROOT_CERT holds a line break or another control character: expected a PEM file"
    elif certificate and mode not in VERIFYING:
        yield f"APP_DATABASE_SSL_ROOT_CERT is set, but APP_DATABASE_SSLMODE is {mode!r}: expected verify-full"
    elif not certificate and mode in VERIFYING:
        from registration_persistence.database.endpoint_region import endpoint_region  # it is needed in this case only

        default = "" if values.get("sslmode") else " by default"
        for host in filter(None, (values.get("host"), values.get("reader_host"))):
            # Without a region, `iam_problems` refuses the host itself.
            if root_certificate_for(host) is None and (values.get("auth") != "iam" or endpoint_region(host)):
                yield (
                    f"APP_DATABASE_SSLMODE is {mode!r}{default} but no certificate is shipped for the host {host!r}: "
                    "set APP_DATABASE_SSL_ROOT_CERT to a PEM file"
                )


def _login_problems(require_auth: object, mode: SslMode, *, relaxed: bool) -> Iterator[str]:
    if require_auth not in get_args(RequireAuth):
        yield f"APP_DATABASE_REQUIRE_AUTH is {require_auth!r}: expected one of {', '.join(get_args(RequireAuth))}"
    elif require_auth == "password" and mode not in VERIFYING and not relaxed:
        yield (
            f"APP_DATABASE_REQUIRE_AUTH is 'password' but APP_DATABASE_SSLMODE is {mode!r}, so any server that answers "
            "could ask for the password in clear text: set APP_DATABASE_SSLMODE to verify-full"
        )


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long, or with a NUL
        return False
