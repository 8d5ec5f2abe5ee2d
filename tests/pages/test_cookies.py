"""The signed cookies of the example, and their key."""

import asyncio
import base64
import time
from contextlib import nullcontext
from uuid import uuid4

import pytest
from fastapi import HTTPException, Request, Response
from signup_api.cookies import Cookies, Kind, own_page
from signup_api.keys import Keys


def value_of(response: Response) -> str:
    """Return the value of the cookie that *response* sets; scripts and other sites cannot use it."""
    cookie = response.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    return cookie.partition("=")[2].partition(";")[0]


def test_a_cookie(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the same kind with the same key before its end names the registration; anything else is 401."""
    cookies, registration_id, response = Cookies(Keys.of_secret(b"x" * 32)), uuid4(), Response()
    cookies.set(response, "session", registration_id)
    value = value_of(response)
    assert cookies.registration_of("session", value) == registration_id

    identity, ends, signature = value.split(".")
    forged = [
        None,
        "",
        "..",
        f"{uuid4().hex}.{ends}.{signature}",
        f"{identity}.{int(ends) + 1}.{signature}",
        f"{identity}.{ends}.{'é' * 64}",
        f"{identity}.{ends}.",
        f"{identity}.{'9' * 5000}.{signature}",
    ]

    def is_rejected(kind: Kind, value: str | None, by: Cookies) -> bool:
        with pytest.raises(HTTPException) as caught:
            by.registration_of(kind, value)
        return caught.value.status_code == 401

    assert all(is_rejected("session", value, cookies) for value in forged)
    assert is_rejected("sign_up", value, cookies)
    assert is_rejected("session", value, Cookies(Keys.of_secret(b"y" * 32)))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3700)
    assert is_rejected("session", value, cookies)


def test_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of `local` and `test`, the service needs a secret of 32 bytes; it is not in the repr."""
    secret = base64.b64encode(b"secret of the example, 32 bytes!").decode()
    monkeypatch.setenv("APP_ENVIRONMENT", "prod")
    monkeypatch.setenv("SIGNUP_SECRET", secret)
    keys = Keys.of_environment()
    assert keys.cookies == Keys.of_secret(base64.b64decode(secret)).cookies
    assert "cookies=" not in repr(keys)
    for wrong in (None, "", "short", secret[:-12], "ü" * 44):
        if wrong is None:
            monkeypatch.delenv("SIGNUP_SECRET")
        else:
            monkeypatch.setenv("SIGNUP_SECRET", wrong)
        with pytest.raises(ValueError, match="SIGNUP_SECRET is missing or too short"):
            Keys.of_environment()
    monkeypatch.setenv("APP_ENVIRONMENT", "test")
    monkeypatch.delenv("SIGNUP_SECRET")
    assert Keys.of_environment().cookies != Keys.of_environment().cookies


@pytest.mark.parametrize(
    ("environment", "origin", "status"),
    [
        ("prod", None, 200),
        ("prod", b"https://me.example", 200),
        ("prod", b"http://me.example", 403),
        ("prod", b"https://evil.example", 403),
        ("prod", b"null", 403),
        ("prod", b"", 403),
        ("local", b"http://me.example", 200),
        ("local", b"http://me.example:81", 403),
    ],
)
def test_the_origin_of_a_request(
    environment: str, origin: bytes | None, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside of `local` and `test`, a page of this host that came without TLS is as foreign as one of another site."""
    monkeypatch.setenv("APP_ENVIRONMENT", environment)
    headers = [(b"host", b"me.example"), *([] if origin is None else [(b"origin", origin)])]
    with nullcontext() if status == 200 else pytest.raises(HTTPException, match="403"):
        asyncio.run(own_page(Request({"type": "http", "headers": headers})))
