"""The six-digit codes, and `Peppers`: the keys of the hashes that are stored instead of codes."""

import base64
import hmac
import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from uuid import UUID

from registration_persistence.domain.text import plain_text
from registration_persistence.domain.traceback_redaction import redact_traceback_of
from registration_persistence.errors import InvalidInput, RegistrationPersistenceError
from registration_persistence.lazy_pattern import lazy_pattern

_DIGITS = 6

_KEY_ID = lazy_pattern(r"-?(?:0|[1-9][0-9]{0,9})")

_CODE = lazy_pattern(r"[0-9]{6}")

# A longer text was not typed; a shorter one that cannot be a code is a wrong code, and is not read.
_MAX_CODE_CHARACTERS = 1_000_000
_MAX_READ_CHARACTERS = 64  # with white space

_MIN_PEPPER_BYTES, _MAX_PEPPER_BYTES = 32, 1024
_MAX_PEPPERS = 32
_MAX_JSON_CHARACTERS = 65_536  # the largest value of a secret
_MAX_KEY_ID = 2**15 - 1  # PostgreSQL's smallint; 0 is the key id of a token, whose hash has no key


class Peppers:
    """The keys that codes are hashed with, because a hash without a key would not protect a million possible codes.

    To change the pepper, add one: new codes use the newest, and codes that were sent before still work. Drop the old
    pepper after the last of these codes has expired.

    Args:
        keys: 32 to 1024 random bytes for each id from 1 to 32767; 1 to 32 of them.
        newest: The id that new codes use, one of the ids in *keys*, 1 to 32767. Defaults to the highest. Name the
            old one until every instance of the service has the new key.

    Attributes:
        newest: The id of the pepper that new codes use, 1 to 32767.

    Raises:
        InvalidInput: There is no pepper, there are more than 32, an id is out of range, a key is too short or too long,
            or *newest* is unknown.
    """

    @redact_traceback_of(RegistrationPersistenceError)
    def __init__(self, keys: Mapping[int, bytes], *, newest: int | None = None) -> None:
        self._keys = dict(islice(keys.items(), _MAX_PEPPERS + 1)) if isinstance(keys, Mapping) else {}
        problems = []
        if len(self._keys) > _MAX_PEPPERS:
            raise InvalidInput(f"there are more than {_MAX_PEPPERS} peppers")
        if not self._keys:
            problems.append("there is no pepper: expected at least one")
        for key_id, key in self._keys.items():
            if not _is_key_id(key_id):
                problems.append(f"a pepper's id is not a whole number from 1 to {_MAX_KEY_ID}")
            elif not isinstance(key, bytes) or len(key) < _MIN_PEPPER_BYTES:
                problems.append(f"pepper {key_id} is not {_MIN_PEPPER_BYTES} bytes or more: create it with os.urandom")
            elif len(key) > _MAX_PEPPER_BYTES:
                problems.append(f"pepper {key_id} is longer than {_MAX_PEPPER_BYTES} bytes: create it with os.urandom")
        if newest is not None and (type(newest) is not int or newest not in self._keys):
            problems.append("the newest pepper is not one of the given peppers")
        if problems:
            raise InvalidInput("; ".join(problems))
        self.newest: int = max(self._keys) if newest is None else newest

    def __repr__(self) -> str:
        # An error tracker also calls this for rejected peppers, whose ids may have any type.
        ids = sorted(key_id for key_id in self._keys if _is_key_id(key_id))
        return f"<Peppers {', '.join(map(str, ids))}>"

    @classmethod
    @redact_traceback_of(RegistrationPersistenceError)
    def from_json(cls, text: str) -> "Peppers":
        """Return the peppers of a JSON object, for example the value of a secret.

        Args:
            text: The keys in base64 by their ids, `{"1": "…", "2": "…"}`, at most 65,536 characters.
                `{"1": "…", "2": "…", "newest": 1}` names the pepper that new codes use.

        Raises:
            InvalidInput: *text* does not have this form. The message does not quote it.
        """
        keys: dict[int, bytes] = {}
        newest = None
        with suppress(ValueError, TypeError, AttributeError, RecursionError):
            given = json.loads(plain_text(text, _MAX_JSON_CHARACTERS) or "")
            newest = given.pop("newest", None)
            if all(_KEY_ID.fullmatch(key_id) for key_id in given):
                keys = {int(key_id): base64.b64decode(key, validate=True) for key_id, key in given.items()}
        if not keys:
            raise InvalidInput('the peppers do not have the form {"1": "<base64>"}')
        return cls(keys, newest=newest)

    @redact_traceback_of(RegistrationPersistenceError)
    def hashes(self, registration_id: UUID, code: str) -> dict[int, bytes]:
        """Return the hash of *code* for each pepper, by its id; empty hashes if *code* is not six digits.

        Args:
            registration_id: The registration that the code is for, a UUID; each has other hashes.
            code: The code as it was typed, at most 1,000,000 characters. White space is ignored, and more than 64
                characters are not six digits.

        Raises:
            InvalidInput: *registration_id* is not a UUID, or *code* is not a string of at most 1,000,000 characters.
        """
        if not isinstance(registration_id, UUID):
            raise InvalidInput(
                f"the id of the registration is a {type(registration_id).__name__}: expected a uuid.UUID"
            )
        if plain_text(code, _MAX_CODE_CHARACTERS) is None:
            raise InvalidInput(f"the code is not a string of at most {_MAX_CODE_CHARACTERS} characters")
        digits = "".join((plain_text(code, _MAX_READ_CHARACTERS) or "").split())
        return {
            key_id: hmac.digest(key, registration_id.bytes + digits.encode(), "sha256")
            if _CODE.fullmatch(digits)
            else b""
            for key_id, key in self._keys.items()
        }


def _is_key_id(given: object) -> bool:
    return type(given) is int and 1 <= given <= _MAX_KEY_ID


def new_code() -> str:
    """Return six random digits."""
    return f"{secrets.randbelow(10**_DIGITS):0{_DIGITS}}"
