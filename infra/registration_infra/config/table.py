"""`Table`, the base of the models, and the words that say which values a key accepts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

_LIMITS = ("ge", "le", "multiple_of", "min_length", "max_length")


@dataclass(frozen=True, slots=True)
class Expected:
    """Metadata of a field: the accepted values in words. The names of its limits, such as `{ge}`, stand for them."""

    words: str


class Table(BaseModel):
    """The keys of one table of an environment file.

    No value is converted, with one exception: a list becomes a tuple.
    A table that is made directly raises pydantic's `ValidationError`, without the values, which may be passwords.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, revalidate_instances="always", hide_input_in_errors=True
    )

    @classmethod
    def file_keys(cls) -> Mapping[str, FieldInfo]:
        """Return the fields that a file may set, by key."""
        return cls.model_fields


def tables_of(model: type[Table]) -> dict[str, type[Table]]:
    """Return the fields of *model* that are tables, by key."""
    kinds = {key: _without_none(field).annotation for key, field in model.file_keys().items()}
    return {key: kind for key, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Table)}


def expected_table(key: str, kind: type[Table]) -> str:
    """Return the words for the table *key*, with its required keys."""
    required = ", ".join(each for each, field in kind.file_keys().items() if field.is_required())
    return f"a table [{key}]" + (f" with {required}" if required else "")


def expected_value(field: FieldInfo) -> str:
    """Return the words for the values that *field* accepts: those of its `Expected`, or those that its type implies."""
    field = _without_none(field)
    words = [each.words for each in field.metadata if isinstance(each, Expected)]
    limits = {name: getattr(each, name) for name in _LIMITS for each in field.metadata if hasattr(each, name)}
    return (words[0] if words else _implied_words(field.annotation)).format_map(limits)


def _implied_words(annotation: Any) -> str:
    if annotation is bool:
        return "true or false"
    if get_origin(annotation) is Literal:
        return " or ".join(json.dumps(value) for value in get_args(annotation))
    return "a whole number, {ge} to {le}"


def _without_none(field: FieldInfo) -> FieldInfo:
    # Limits of a key that may be None are those of the outer field, its words those of the type inside.
    if get_origin(field.annotation) not in (Union, UnionType):
        return field
    (annotation,) = (each for each in get_args(field.annotation) if each is not NoneType)
    inner = FieldInfo.from_annotation(annotation)
    inner.metadata = [*inner.metadata, *field.metadata]
    return inner
