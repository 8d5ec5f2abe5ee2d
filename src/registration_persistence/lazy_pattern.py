"""`lazy_pattern`: a regular expression that is compiled at its first use."""

import re
from typing import cast

_METHODS = ("findall", "fullmatch", "match", "search", "sub")


class _LazyPattern:
    def __init__(self, text: str, flags: int) -> None:
        self._text, self._flags = text, flags

    def __getattr__(self, name: str) -> object:
        """Compile the pattern, and take its methods, so that no further use comes here."""
        compiled = re.compile(self._text, self._flags)
        for method in _METHODS:
            setattr(self, method, getattr(compiled, method))
        return getattr(compiled, name)


def lazy_pattern(text: str, flags: int = 0) -> re.Pattern[str]:
    """Return the pattern *text*; most patterns of a module are not needed for a cold start.

    Args:
        text: The regular expression.
        flags: The flags of `re`. Defaults to none.
    """
    return cast("re.Pattern[str]", _LazyPattern(text, flags))
