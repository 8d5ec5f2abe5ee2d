"""`InfraConfigError`: one error that lists every problem of an environment."""

from collections.abc import Iterable


class InfraConfigError(Exception):
    """An environment is configured wrongly; `problems` lists everything that is wrong with *source*.

    It is not a `ValueError`, because pydantic would turn a `ValueError` of a validator into an error of its own.
    """

    def __init__(self, source: str, problems: Iterable[str]) -> None:
        self.source, self.problems = source, tuple(problems)
        super().__init__(self.source, self.problems)

    def __str__(self) -> str:
        return f"{self.source} is wrong:" + "".join(f"\n  - {problem}" for problem in self.problems)
