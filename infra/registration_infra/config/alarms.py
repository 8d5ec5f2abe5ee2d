"""`AlarmsConfig`: the table [alarms]."""

from typing import Annotated

from pydantic import Field

from registration_infra.config.table import Expected, Table

_Mailbox = Annotated[str, Field(pattern=r"^[^\s@]+@[^\s@]+$"), Expected("one mailbox, such as name@example.org")]


class AlarmsConfig(Table):
    """The receiver of alarms."""

    email: _Mailbox | None = Field(
        default=None,
        description="A mailbox that receives alarms once it has confirmed. Other receivers subscribe to the topic.",
    )
