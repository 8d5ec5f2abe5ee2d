"""`Cookies`: who a visitor is, in signed cookies; and the check that a request comes from a page of this service."""

import hmac
import time
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Depends, HTTPException, Request, Response
from fastapi.security import APIKeyCookie

from signup_api.keys import Keys, is_local

Kind = Literal["sign_up", "session"]

# `sign_up` lasts as long as a registration stays pending.
_SECONDS: dict[Kind, int] = {"sign_up": 7 * 86_400, "session": 3600}

# A cookie with the prefix `__Host-` is sent only to the host that has set it, over TLS.
_PREFIX = "" if is_local() else "__Host-"

_SIGN_UP = APIKeyCookie(name=f"{_PREFIX}sign_up", description="Set by a sign-up.", auto_error=False)
_SESSION = APIKeyCookie(name=f"{_PREFIX}session", description="Set by a verification.", auto_error=False)


class Cookies:
    """Sets and reads the cookies of visitors.

    Args:
        keys: The keys of the service.
    """

    def __init__(self, keys: Keys) -> None:
        self._key = keys.cookies

    def set(self, response: Response, kind: Kind, registration_id: UUID) -> None:
        """Tell the browser to keep the id of a registration, signed, until its end."""
        ends = int(time.time()) + _SECONDS[kind]
        _set(response, kind, f"{registration_id.hex}.{ends}.{self._signature(kind, registration_id, ends)}")

    def registration_of(self, kind: Kind, value: str | None) -> UUID:
        """Return the id in a cookie of this *kind*.

        Raises:
            HTTPException: 401, because the cookie is missing, is not authentic, or has ended.
        """
        try:
            identity, ends, signature = (value or "").split(".")
            registration_id, end = UUID(hex=identity), int(ends)
        except ValueError:
            raise _unknown_visitor(kind) from None
        # compare_digest accepts no other characters in a string.
        authentic = hmac.compare_digest(signature.encode(), self._signature(kind, registration_id, end).encode())
        if not authentic or end < time.time():
            raise _unknown_visitor(kind)
        return registration_id

    def _signature(self, kind: Kind, registration_id: UUID, ends: int) -> str:
        return hmac.new(self._key, f"{kind}.{registration_id.hex}.{ends}".encode(), "sha256").hexdigest()


def remove_cookies(response: Response) -> None:
    """Tell the browser to forget who the visitor is."""
    for kind in _SECONDS:
        _set(response, kind, "")


async def own_page(request: Request) -> None:
    """Reject a request that a page of another site has sent.

    Browsers send `Origin` with each request that can change something; other clients have no cookies of a person.
    """
    scheme, _, host = request.headers.get("origin", "").partition("://")
    # A page without TLS may have been changed on its way.
    is_own = host == request.headers.get("host") and (scheme == "https" or is_local())
    if "origin" in request.headers and not is_own:
        raise HTTPException(403, "the request comes from another site")


async def signed_up(request: Request, value: Annotated[str | None, Depends(_SIGN_UP)]) -> UUID:
    """Return the registration that this browser has created."""
    cookies: Cookies = request.app.state.cookies
    return cookies.registration_of("sign_up", value)


async def signed_in(request: Request, value: Annotated[str | None, Depends(_SESSION)]) -> UUID:
    """Return the registration of the person who has verified their mailbox in this browser."""
    cookies: Cookies = request.app.state.cookies
    return cookies.registration_of("session", value)


def visitor_cookies(request: Request) -> Cookies:
    """Return the cookies of this process."""
    cookies: Cookies = request.app.state.cookies
    return cookies


SignedUp = Annotated[UUID, Depends(signed_up)]
SignedIn = Annotated[UUID, Depends(signed_in)]
VisitorCookies = Annotated[Cookies, Depends(visitor_cookies)]


def _set(response: Response, kind: Kind, value: str) -> None:
    age = _SECONDS[kind] if value else 0
    response.set_cookie(
        f"{_PREFIX}{kind}", value, max_age=age, path="/", secure=bool(_PREFIX), httponly=True, samesite="strict"
    )


def _unknown_visitor(kind: Kind) -> HTTPException:
    step = "sign up" if kind == "sign_up" else "verify your mailbox"
    return HTTPException(401, f"this browser is not known, or not any more: {step} first")
