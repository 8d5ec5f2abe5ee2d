"""The two cookies that tell who a visitor is: signed, and invisible to scripts and other sites."""

import hmac
import time
from typing import Literal
from uuid import UUID

from answers import Event, Refused, Response
from keys import cookie_key, is_local

Kind = Literal["sign_up", "session"]

# `sign_up` lasts as long as a registration stays pending.
_SECONDS: dict[Kind, int] = {"sign_up": 7 * 86_400, "session": 3600}


def with_cookie(answer: Response, kind: Kind, registration_id: UUID) -> Response:
    """Return *answer*, with which the browser keeps the id of a registration, signed, until its end."""
    ends = int(time.time()) + _SECONDS[kind]
    value = f"{registration_id.hex}.{ends}.{_signature(kind, registration_id, ends)}"
    return {**answer, "cookies": [_cookie(kind, value)]}


def without_cookies(answer: Response) -> Response:
    """Return *answer*, with which the browser forgets who the visitor is."""
    return {**answer, "cookies": [_cookie(kind, "") for kind in _SECONDS]}


def registration_of(event: Event, kind: Kind) -> UUID:
    """Return the id in the cookie of this *kind*.

    Raises:
        Refused: 401, because the cookie is missing, is not authentic, or has ended.
    """
    start = f"{_name(kind)}="
    value = next((each.removeprefix(start) for each in event.get("cookies", []) if each.startswith(start)), "")
    try:
        identity, ends, signature = value.split(".")
        registration_id, end = UUID(hex=identity), int(ends)
    except ValueError:
        raise unknown_visitor(kind) from None
    # compare_digest accepts no other characters in a string.
    authentic = hmac.compare_digest(signature.encode(), _signature(kind, registration_id, end).encode())
    if not authentic or end < time.time():
        raise unknown_visitor(kind)
    return registration_id


def unknown_visitor(kind: Kind) -> Refused:
    """Return the refusal of a visitor without a valid cookie of this *kind*."""
    step = "sign up" if kind == "sign_up" else "verify your mailbox"
    return Refused(401, f"this browser is not known, or not any more: {step} first")


def _signature(kind: Kind, registration_id: UUID, ends: int) -> str:
    return hmac.new(cookie_key(), f"{kind}.{registration_id.hex}.{ends}".encode(), "sha256").hexdigest()


def _name(kind: Kind) -> str:
    # A cookie with this prefix is sent only to the host that has set it, over TLS.
    return kind if is_local() else f"__Host-{kind}"


def _cookie(kind: Kind, value: str) -> str:
    age = _SECONDS[kind] if value else 0
    secure = "" if is_local() else "; Secure"
    return f"{_name(kind)}={value}; Max-Age={age}; Path=/; HttpOnly; SameSite=Strict{secure}"
