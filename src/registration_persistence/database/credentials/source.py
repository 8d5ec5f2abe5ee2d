"""`CredentialSource`: the interface from which a `Database` gets user names and passwords."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from registration_persistence.errors import ConfigurationError

_MAX_CHARACTERS: Mapping[str, int] = {"username": 1024, "password": 65_536, "origin": 4096}


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password; `repr` does not show the password.

    Args:
        username: The role that logs in, text of at most 1024 characters; PostgreSQL's names have up to 63 bytes.
        password: Its password, text of at most 65,536 characters, which is enough for a token of IAM.
        origin: The source of the credentials, for error messages, text of at most 4096 characters; comparisons ignore
            it. Defaults to no origin.

    Raises:
        ConfigurationError: An argument is not text, or is too long; the message does not quote it.
    """

    username: str
    password: str = field(repr=False)
    origin: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        problems = [
            f"the {name} of the credentials is not text of at most {most} characters"
            for name, most in _MAX_CHARACTERS.items()
            if not isinstance(getattr(self, name), str) or str.__len__(getattr(self, name)) > most
        ]
        if problems:
            raise ConfigurationError(problems)


class CredentialSource(ABC):
    """The interface from which a `Database` gets credentials; a subclass must implement `current` only."""

    @abstractmethod
    def current(self) -> Credentials:
        """Return the credentials to try first; called for each attempt to open a connection."""

    def replacements(self, rejected: Credentials, *, since: float) -> Iterator[Credentials]:  # noqa: ARG002 a source with others uses them
        """Yield other credentials to try after the server rejected *rejected*; by default none.

        The connector logs in with each before it asks for the next.

        Args:
            rejected: The credentials that the server rejected.
            since: The `time.monotonic()` at which the attempt began; a value that was read later is up to date.
        """
        return iter(())

    def seconds_until_retry(self) -> float:
        """Return the seconds until `replacements` can yield other credentials; by default infinity, for never."""
        return math.inf

    def on_accepted(self, credentials: Credentials) -> None:  # noqa: ARG002 a source that remembers uses it
        """Called after the server accepted *credentials*; by default nothing happens.

        Args:
            credentials: The credentials of the login that succeeded.
        """
        return

    def advice(self) -> str:
        """Return what to check if the server rejects the credentials, for the error message; by default nothing."""
        return ""

    def for_host(self, host: str) -> "CredentialSource":  # noqa: ARG002 a source whose passwords are made for one host uses it
        """Return the source for another endpoint of the cluster; by default this one, as a password is valid at each.

        `refresh` and `after_fork_in_child` are called on this source only, which passes them on.

        `refresh` and `after_fork_in_child` are called on this source only, which passes them on.

        Args:
            host: The endpoint, for example that of the readers.
        """
        return self

    def refresh(self) -> None:
        """Read cached credentials again; called after a SnapStart snapshot was restored.

        If reading fails, the cached credentials stay in use. By default nothing happens.
        """
        return

    def after_fork_in_child(self) -> None:
        """Drop locks and sockets that the parent process may use; by default nothing happens."""
        return


@dataclass(frozen=True, slots=True)
class StaticCredentials(CredentialSource):
    """Credentials that never change, for tests and for a database on this machine.

    Args:
        credentials: The user name and password of every connection.
    """

    credentials: Credentials

    def current(self) -> Credentials:
        """Return the user name and password."""
        return self.credentials
