"""The four steps of a rotation."""

import secrets
import string
from collections.abc import Callable, Mapping
from typing import Final

from database_login import DatabaseLogins
from problems import RotationFailed
from rotating_secret import RotatingSecret, Version

from registration_persistence import Credentials
from registration_persistence.errors import CredentialsRejected

# `bootstrap` creates both users.
_CLONE_SUFFIX = "_clone"
# Letters and digits only, because URLs and shells interpret other characters. 32 of them are 190 random bits.
_ALPHABET, _PASSWORD_LENGTH = string.ascii_letters + string.digits, 32


class Rotation:
    """One rotation of a secret. Each step finds out what an earlier invocation has done, and does the rest.

    Args:
        secret: The secret, and the version that the rotation creates.
        logins: The logins of the database.
    """

    def __init__(self, secret: RotatingSecret, logins: DatabaseLogins) -> None:
        self._secret = secret
        self._logins = logins

    def perform(self, step: str) -> None:
        """Perform *step*, one of `STEPS`.

        Raises:
            RotationFailed: The step failed.
        """
        _METHODS[step](self)

    def create(self) -> None:
        """Store a new password as `AWSPENDING`, unless the version has one already."""
        if self._secret.pending() is not None:
            return
        current = self._current()
        password = "".join(secrets.choice(_ALPHABET) for _ in range(_PASSWORD_LENGTH))
        username = self._next_username(current.credentials.username)
        self._secret.store_pending(Version(Credentials(username, password), current.others))

    def set(self) -> None:
        """Make the server accept the pending password."""
        pending, current = self._pending().credentials, self._current().credentials
        if pending.username != self._next_username(current.username):
            raise RotationFailed(f"AWSPENDING names {pending.username}: expected the user that follows AWSCURRENT")
        if self._logins.accepts(pending):
            return
        try:
            own = self._accepted(current)
            self._logins.set_password(pending, own=None if self._logins.alternate else own)
        except (RotationFailed, CredentialsRejected):
            # An invocation at the same time may have set it: PostgreSQL lets one of two concurrent changes fail.
            if not self._logins.accepts(pending):
                raise

    def test(self) -> None:
        """Log in with the pending password."""
        if not self._logins.accepts(self._pending().credentials):
            raise RotationFailed("the server rejects AWSPENDING: setSecret has not set its password")

    def finish(self) -> None:
        """Make the new version `AWSCURRENT`; tested before, because no process could log in after a wrong one."""
        self.test()
        self._secret.make_current()

    def _next_username(self, current: str) -> str:
        if not self._logins.alternate:
            return current
        base = current.removesuffix(_CLONE_SUFFIX)
        return base if base != current else current + _CLONE_SUFFIX

    def _accepted(self, current: Credentials) -> Credentials:
        """Return the credentials that the server accepts now: those of `AWSCURRENT` or, for one user, `AWSPREVIOUS`.

        Without this check, a wrong secret could make the administrator change the password of any role.
        """
        if self._logins.accepts(current):
            return current
        previous = None if self._logins.alternate else self._secret.labelled("AWSPREVIOUS")
        older = previous.credentials if previous else current
        if older != current and older.username == current.username and self._logins.accepts(older):
            return older
        raise RotationFailed(f"the server rejects {current.username} with AWSCURRENT: the secret does not match it")

    def _pending(self) -> Version:
        pending = self._secret.pending()
        if pending is None:
            raise RotationFailed("AWSPENDING has no content: createSecret comes first")
        return pending

    def _current(self) -> Version:
        current = self._secret.labelled("AWSCURRENT")
        if current is None:
            raise RotationFailed("no version is AWSCURRENT: store a JSON object with username and password")
        return current


_METHODS: Final[Mapping[str, Callable[[Rotation], None]]] = {
    "createSecret": Rotation.create,
    "setSecret": Rotation.set,
    "testSecret": Rotation.test,
    "finishSecret": Rotation.finish,
}

STEPS = tuple(_METHODS)
"""The names of the steps, in the order in which Secrets Manager performs them."""
