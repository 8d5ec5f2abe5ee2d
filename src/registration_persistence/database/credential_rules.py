"""The rules for the credentials: a secret, a login with IAM, or in `test` and `local` user and password."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias, get_args

from registration_persistence.database.secret_arn import arn_problem
from registration_persistence.database.settings_limits import MAX_IDENTIFIER_BYTES, UNPRINTABLE, is_text

Auth: TypeAlias = Literal["secret", "iam"]

SecretSource: TypeAlias = Literal["secrets-manager", "extension"]


def credential_problems(values: Mapping[str, Any], *, relaxed: bool) -> Iterator[str]:
    """Yield each problem of the credentials in *values*, as one sentence.

    Args:
        values: The settings by name.
        relaxed: Whether user and password may be settings, as in `test` and `local`.
    """
    auth = values.get("auth", "secret")
    yield from _source_problems(values, auth)
    if auth == "iam":
        from registration_persistence.database.iam_rules import iam_problems  # it is needed in this case only

        yield from iam_problems(values)
        yield from _user_problems(values.get("user"))
        return
    if auth not in get_args(Auth):
        yield f"APP_DATABASE_AUTH is {auth!r}: expected one of {', '.join(get_args(Auth))}"
        if values.get("user") and not (values.get("secret_arn") or values.get("password")):
            return  # `iam` is meant, so the user is not a second problem
    yield from _secret_problems(values, relaxed=relaxed)


def _source_problems(values: Mapping[str, Any], auth: object) -> Iterator[str]:
    source = values.get("secret_source", "secrets-manager")
    if source not in get_args(SecretSource):
        yield f"APP_DATABASE_SECRET_SOURCE is {source!r}: expected one of {', '.join(get_args(SecretSource))}"
    elif source == "extension" and auth == "iam":
        yield (
            "APP_DATABASE_SECRET_SOURCE is 'extension', but APP_DATABASE_AUTH is 'iam', which needs no secret: unset it"
        )
    elif source == "extension" and values.get("user"):
        yield (
            "APP_DATABASE_SECRET_SOURCE is 'extension', but APP_DATABASE_USER and APP_DATABASE_PASSWORD are set "
            "instead of a secret: unset it"
        )


def _secret_problems(values: Mapping[str, Any], *, relaxed: bool) -> Iterator[str]:
    arn, user, password = values.get("secret_arn"), values.get("user"), values.get("password")
    if (user or password) and not relaxed:
        yield (
            "APP_DATABASE_USER and APP_DATABASE_PASSWORD are allowed only if APP_ENVIRONMENT is test or local: "
            f"unset them{'' if arn else ' and set APP_DATABASE_SECRET_ARN'}"
            f"{'' if password or arn else ', or set APP_DATABASE_AUTH to iam and keep the user'}"
        )
    elif (user or password) and arn:
        yield "APP_DATABASE_SECRET_ARN and APP_DATABASE_USER or _PASSWORD are both set: expected one or the other"
    elif bool(user) != bool(password):
        yield f"APP_DATABASE_{'PASSWORD' if user else 'USER'} is not set: expected user and password together"
    elif user and password and not (is_text(user) and is_text(password)):
        yield "APP_DATABASE_USER or _PASSWORD holds NUL or is not UTF-8: expected text"
    elif user:
        yield from _user_problems(user)
    elif not arn:
        yield "APP_DATABASE_SECRET_ARN is not set: expected the ARN of a secret with username and password"
    if arn and (problem := arn_problem(arn, "APP_DATABASE_SECRET_ARN")):
        yield problem


def _user_problems(user: str | None) -> Iterator[str]:
    if user and not is_text(user):
        yield "APP_DATABASE_USER holds NUL or is not UTF-8: expected text"
    elif user and not user.isprintable():
        yield f"APP_DATABASE_USER {UNPRINTABLE}"
    elif user and len(user.encode()) > MAX_IDENTIFIER_BYTES:
        yield f"APP_DATABASE_USER has {len(user.encode())} bytes: expected at most {MAX_IDENTIFIER_BYTES}"
