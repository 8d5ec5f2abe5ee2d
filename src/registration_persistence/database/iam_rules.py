"""The rules for a login with IAM (`APP_DATABASE_AUTH=iam`): the endpoint, the user, TLS, and no other credentials."""

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any

from registration_persistence.database.endpoint_region import endpoint_region, is_custom_endpoint
from registration_persistence.database.secret_arn import quoted
from registration_persistence.database.tls_rules import VERIFYING, sslmode_of

_HOST_VARIABLES: Mapping[str, str] = {"host": "APP_DATABASE_HOST", "reader_host": "APP_DATABASE_READER_HOST"}

_OTHER_CREDENTIALS: Mapping[str, str] = {
    "secret_arn": "APP_DATABASE_SECRET_ARN",
    "password": "APP_DATABASE_PASSWORD",
}


def iam_problems(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield each problem of a login with IAM, as one sentence.

    Args:
        values: The settings by name.
    """
    for name, variable in _OTHER_CREDENTIALS.items():
        if values.get(name):
            yield f"{variable} is set, but APP_DATABASE_AUTH is 'iam', which needs no secret and no password: unset it"
    if not values.get("user"):
        yield "APP_DATABASE_USER is not set, but APP_DATABASE_AUTH is 'iam': expected the role that logs in with IAM"
    for name, variable in _HOST_VARIABLES.items():
        if (host := values.get(name)) and (reason := _reason_against(host)):
            yield (
                f"{variable} is {quoted(host)}, {reason}: expected the endpoint of the cluster, of an instance or of a "
                "proxy, because a token of IAM is valid for one endpoint and for the region in its name"
            )
    yield from _tls_problems(values)


def _reason_against(host: str) -> str | None:
    """Return why no token can be signed for *host*; `None` if one can."""
    if host.startswith(("/", "@")):
        return "a Unix socket"
    try:
        ip_address(host)
    except ValueError:
        pass
    else:
        return "an IP address"
    if is_custom_endpoint(host):
        return "a custom endpoint, for which RDS accepts no token"
    if endpoint_region(host):
        return None
    return "an alias, the endpoint of a global database or a host outside Amazon RDS, without the region of the cluster"


def _tls_problems(values: Mapping[str, Any]) -> Iterator[str]:
    require_auth = values.get("require_auth")
    if require_auth not in {None, "password"}:
        yield (
            f"APP_DATABASE_REQUIRE_AUTH is {require_auth!r}, but APP_DATABASE_AUTH is 'iam', and RDS asks for a token "
            "in clear text: unset it"
        )
    # `require` is accepted as an explicit choice only.
    if values.get("sslmode") is None and sslmode_of(values) not in VERIFYING and _has_endpoint(values):
        yield (
            "APP_DATABASE_SSL_ROOT_CERT is not set, but APP_DATABASE_AUTH is 'iam', and no certificate is shipped for "
            f"the host {values['host']!r}: set it to a PEM file, or set APP_DATABASE_SSLMODE to require, so that any "
            "server that answers receives the token"
        )


def _has_endpoint(values: Mapping[str, Any]) -> bool:
    host = values.get("host")
    return isinstance(host, str) and endpoint_region(host) is not None
