"""`CredentialSource`: the interface through which a `Database` gets the user name and the password."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password, which `repr` does not show.

    Args:
        username: The role that logs in.
        password: Its password.
        origin: Where they were found, for messages; does not count in comparisons.
    """

    username: str
    password: str = field(repr=False)
    origin: str = field(default="", compare=False)


class CredentialSource(ABC):
    """What a `Database` asks for credentials; only `current` must be written."""

    @abstractmethod
    def current(self) -> Credentials:
        """Return the credentials to try first, each time that a connection is opened."""

    def replacements(self, rejected: Credentials, *, since: float) -> Iterator[Credentials]:  # noqa: ARG002 a source with others uses them
        """Yield others to try, now that the server refused *rejected*, each as late as possible.

        Args:
            rejected: What the server refused.
            since: The `time.monotonic()` before *rejected* was asked for; what was read since is fresh enough.
        """
        return iter(())

    def seconds_until_retry(self) -> float:
        """Return the seconds after which `replacements` may know more; infinite where it never will."""
        return math.inf

    def on_accepted(self, credentials: Credentials) -> None:  # noqa: ARG002 a source that remembers uses it
        """Hear that the server accepted *credentials*."""
        return

    def refresh(self) -> None:
        """Check what is cached, after time that went by unnoticed; a failure is no reason to forget it."""
        return

    def after_fork_in_child(self) -> None:
        """Give up every lock and socket that the parent process may use."""
        return


@dataclass(frozen=True, slots=True)
class StaticCredentials(CredentialSource):
    """The same credentials for ever; for tests and for a database on this machine."""

    credentials: Credentials

    def current(self) -> Credentials:
        """Return the one user and password there is."""
        return self.credentials
