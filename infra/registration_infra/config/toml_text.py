"""`toml_text`: values for error messages, as TOML writes them."""

import json
from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel

_MAX_CHARACTERS: Final = 200
# TOML has no larger integers.
_MAX_INTEGER_BITS: Final = 64


def toml_text(value: object) -> str:
    """Return *value* as TOML writes it, or nearly so. Of a nested value, maybe a password, return only the kind."""
    if isinstance(value, Mapping | BaseModel):
        return "a table"
    if isinstance(value, list | tuple):
        nested = any(isinstance(each, Mapping | list | tuple) for each in value)
        text = "a list of tables or lists" if nested else f"[{', '.join(map(toml_text, value))}]"
    elif isinstance(value, bool | str):
        # JSON escapes the line breaks of ASCII only.
        written = json.dumps(value, ensure_ascii=False)
        text = "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in written)
    elif isinstance(value, int) and value.bit_length() > _MAX_INTEGER_BITS:
        return f"a number of more than {_MAX_INTEGER_BITS} bits"  # Python may refuse to write it
    else:
        text = str(value)
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}…"
