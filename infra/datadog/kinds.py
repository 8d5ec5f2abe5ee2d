"""The kinds of resources that the command manages in Datadog."""

from typing import Final, Literal, get_args

Kind = Literal["monitor", "dashboard"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
