"""Six-digit codes, and the keyed hashes that are stored in their place."""

import base64
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from uuid import UUID

from registration_persistence.domain.traceback_redaction import redact_traceback_of
from registration_persistence.errors import InvalidInput, RegistrationPersistenceError

_DIGITS = 6

_KEY_ID = re.compile(r"-?(?:0|[1-9][0-9]{0,9})")

_CODE = re.compile(r"[0-9]{6}")

_SHORTEST_PEPPER = 32

# PostgreSQL's smallint; 0 marks the plain hash of a token.
_GREATEST_KEY_ID = 2**15 - 1


class Peppers:
    """The keys that codes are hashed with: a million codes are soon tried, so a hash without a key would hide nothing.

    To change the pepper, add one; new codes use the newest, and those that were sent before stay good. Drop the old one
    when the last of them has expired.

    Args:
        keys: At least 32 random octets for each id from 1 to 32767.
        newest: The id that new codes use, by default the highest; name the old one until every instance of the service
            has the new key.

    Raises:
        InvalidInput: There is none, an id is out of range, a key is too short, or *newest* is none of them.
    """

    @redact_traceback_of(RegistrationPersistenceError)
    def __init__(self, keys: Mapping[int, bytes], *, newest: int | None = None) -> None:
        self._keys = dict(keys) if isinstance(keys, Mapping) else {}
        problems = []
        if not self._keys:
            problems.append("there is no pepper: expected one at least")
        for key_id, key in self._keys.items():
            if type(key_id) is not int or not 1 <= key_id <= _GREATEST_KEY_ID:
                problems.append(f"a pepper's id is not a whole number from 1 to {_GREATEST_KEY_ID}")
            elif not isinstance(key, bytes) or len(key) < _SHORTEST_PEPPER:
                problems.append(f"pepper {key_id} is not {_SHORTEST_PEPPER} octets or more: make it with os.urandom")
        if newest is not None and newest not in self._keys:
            problems.append("the newest pepper is none of those that are given")
        if problems:
            raise InvalidInput("; ".join(problems))
        self.newest = max(self._keys) if newest is None else newest

    def __repr__(self) -> str:
        # Also of one that is refused, whose ids may be anything: an error tracker asks.
        return f"<Peppers {', '.join(sorted(map(str, self._keys), key=lambda key_id: (len(key_id), key_id)))}>"

    @classmethod
    @redact_traceback_of(RegistrationPersistenceError)
    def from_json(cls, text: str) -> "Peppers":
        """Return the peppers of *text*, for example a secret's value: `{"1": "…", "2": "…"}` with keys in base64.

        `{"1": "…", "2": "…", "newest": 1}` names the one that new codes use.

        Raises:
            InvalidInput: It is not of that form. The message does not quote it.
        """
        keys: dict[int, bytes] = {}
        newest = None
        with suppress(ValueError, TypeError, AttributeError, RecursionError):
            given = json.loads(text)
            newest = given.pop("newest", None)
            if all(_KEY_ID.fullmatch(key_id) for key_id in given):
                keys = {int(key_id): base64.b64decode(key, validate=True) for key_id, key in given.items()}
        if not keys:
            raise InvalidInput('the peppers are not of the form {"1": "<base64>"}')
        return cls(keys, newest=newest)

    def hashes(self, registration_id: UUID, code: str) -> dict[int, bytes]:
        """Return what is stored for *code*, by the id of the pepper; empty hashes for what is no code."""
        digits = "".join(code.split())
        return {
            key_id: hmac.digest(key, registration_id.bytes + digits.encode(), "sha256")
            if _CODE.fullmatch(digits)
            else b""
            for key_id, key in self._keys.items()
        }


def new_code() -> str:
    """Return six random digits."""
    return f"{secrets.randbelow(10**_DIGITS):0{_DIGITS}}"
