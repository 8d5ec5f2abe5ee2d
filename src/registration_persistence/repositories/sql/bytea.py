"""`Bytea`: the type of a parameter of bytes."""

from typing import Any

from sqlalchemy.types import UserDefinedType


class Bytea(UserDefinedType[bytes]):
    """The type `bytea`; unlike `LargeBinary`, it does not wrap each value in an object of the driver."""

    cache_ok: bool | None = True
    render_bind_cast: bool = True

    def get_col_spec(self, **_options: Any) -> str:
        """Return the name of the type."""
        return "bytea"
