"""`AwaitedCredentials`: a source of credentials that reads them in a thread, so that the event loop goes on."""

from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from registration_persistence.database.credentials.source import Credentials, CredentialSource
from registration_persistence.database.waits import CallUnfinished, Waits
from registration_persistence.errors import SecretUnavailable

P = ParamSpec("P")
T = TypeVar("T")


class AwaitedCredentials(CredentialSource):
    """The credentials of *source*, whose calls go through *waits*.

    Args:
        source: The source, which threads may share.
        waits: The waits of the database.
    """

    def __init__(self, source: CredentialSource, waits: Waits) -> None:
        self._source, self._waits = source, waits

    def current(self) -> Credentials:
        """Return the credentials to try first."""
        return self._call(self._source.current)

    def replacements(self, rejected: Credentials, *, since: float) -> Iterator[Credentials]:
        """Yield other credentials to try; each is looked for in a thread."""
        found = self._source.replacements(rejected, since=since)
        while (credentials := self._call(lambda: next(found, None))) is not None:
            yield credentials

    def seconds_until_retry(self) -> float:
        """Return the seconds until `replacements` can yield other credentials."""
        return self._source.seconds_until_retry()

    def on_accepted(self, credentials: Credentials) -> None:
        """Tell the source that the server accepted *credentials*."""
        self._call(self._source.on_accepted, credentials)

    def advice(self) -> str:
        """Return what to check if the server rejects the credentials."""
        return self._source.advice()

    def for_host(self, host: str) -> "AwaitedCredentials":
        """Return the source for another endpoint of the cluster."""
        return AwaitedCredentials(self._source.for_host(host), self._waits)

    def refresh(self) -> None:
        """Read cached credentials again, without an event loop."""
        self._source.refresh()

    def after_fork_in_child(self) -> None:
        """Drop locks and sockets that the parent process may use."""
        self._source.after_fork_in_child()

    def _call(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        try:
            return self._waits.call(function, *arguments, **named)
        except CallUnfinished:
            raise SecretUnavailable("the credentials were still being read at the deadline") from None
