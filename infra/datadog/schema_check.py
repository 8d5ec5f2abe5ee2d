"""Check of a payload against the models of Datadog's API client, without network.

The client's own validation reports too little. With version 2.62 it raises an error for a wrong type and a missing
key, and it stops at the first one. It sends unknown keys, read-only keys and unknown values of an enumeration without
an error. In a list, such as the widgets of a dashboard, it reports nothing, or an error that names no place. The
stand-in API of the tests stores whatever arrives, so a round trip does not show these problems either.
`schema_problems` therefore compares the payload with the public description of the models: `attribute_map`,
`openapi_types`, `allowed_values`, `read_only_vars`, the signatures and `composed_model_input_classes`.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from datadog_api_client.exceptions import OpenApiException
from datadog_api_client.model_utils import (
    ModelComposed,
    ModelNormal,
    ModelSimple,
    UnparsedObject,
    composed_model_input_classes,
)
from datadog_api_client.v1.model.dashboard import Dashboard
from datadog_api_client.v1.model.monitor import Monitor

from datadog.kinds import Kind
from datadog.problems import as_json, child_key

_MODELS: Mapping[Kind, Any] = {"monitor": Monitor, "dashboard": Dashboard}
_KIND_KEYS = ("type", "data_source")
_JSON_TYPES: Mapping[Any, tuple[type, ...]] = {float: (int, float), datetime: (str,)}
_TYPE_NAMES: Mapping[Any, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict: "an object",
    list: "a list",
    type(None): "null",
    datetime: "a time",
}


def payload_problems(kind: Kind, body: Any) -> list[str]:
    """Return the problems of *body*, first those of our check, and if it has none, those of the client.

    Args:
        kind: `monitor` or `dashboard`.
        body: Parsed JSON with its placeholders replaced.
    """
    model = _MODELS[kind]
    return list(schema_problems(model, body, "")) or list(_client_problems(model, body))


def schema_problems(model: Any, value: Any, key: str) -> Iterator[str]:
    """Yield each difference between *value* and *model*.

    Args:
        model: A class of the client, a primitive, `[model]`, `{str: model}`, or a tuple of alternatives.
        value: Parsed JSON.
        key: The path of *value* in its file.
    """
    if isinstance(model, tuple):
        yield from _closest_problems(model, value, key)
    elif isinstance(model, list | dict):
        yield from _container_problems(model, value, key)
    elif issubclass(model, ModelComposed):
        yield from _closest_problems(composed_model_input_classes(model), value, key)
    elif issubclass(model, ModelNormal):
        yield from _object_problems(model, value, key)
    elif issubclass(model, ModelSimple) and not model.allowed_values:
        yield from schema_problems(model.openapi_types["value"], value, key)
    elif not _accepts(model, value):
        yield f"{key} is {as_json(value)}: expected {_expected(model)}"


def _accepts(model: type, value: Any) -> bool:
    if issubclass(model, ModelSimple):
        return not isinstance(value, dict | list) and value in model.allowed_values
    # The exact type and not `isinstance`: in Python, `True` is also an instance of `int`.
    return type(value) in _JSON_TYPES.get(model, (model,))


def _expected(model: type) -> str:
    return _one_of(model.allowed_values) if issubclass(model, ModelSimple) else _TYPE_NAMES.get(model, model.__name__)


def _container_problems(model: list[Any] | dict[Any, Any], value: Any, key: str) -> Iterator[str]:
    if not isinstance(value, type(model)):
        yield f"{key} is {as_json(value)}: expected {_TYPE_NAMES[type(model)]}"
    elif isinstance(model, dict) and isinstance(value, dict):
        for name, item in value.items():
            yield from schema_problems(model[str], item, child_key(key, name))
    else:
        for index, item in enumerate(value):
            yield from schema_problems(model[0], item, f"{key}[{index}]")


def _object_problems(model: type[ModelNormal], value: Any, key: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{key or 'the file'} is {as_json(value)}: expected an object"
        return
    for required in _required_keys(model):
        if required not in value:
            yield f"{child_key(key, required)} is missing: expected it in every {model.__name__}"
    if not model.attribute_map:
        return  # A model without keys accepts any.
    names = {written: name for name, written in model.attribute_map.items()}
    for written, item in value.items():
        path = child_key(key, written)
        if written not in names:
            # Without the value, which could be a misplaced API key.
            yield f"{path} is not a key: expected {_one_of(names)}"
        elif names[written] in model.read_only_vars:
            yield f"{path} is {as_json(item)}: expected nothing, because Datadog sets it"
        else:
            yield from schema_problems(model.openapi_types[names[written]], item, path)


def _required_keys(model: type[ModelNormal]) -> Iterator[str]:
    _, *parameters = inspect.signature(model.__init__).parameters.items()
    for name, parameter in parameters:
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
            yield model.attribute_map[name]


def _closest_problems(models: Sequence[Any], value: Any, key: str) -> Iterator[str]:
    """Yield the problems of *value* with the alternative that it names by its kind, or that has the fewest problems."""
    for name in _KIND_KEYS:
        kinds = [(model, kind) for model in models if (kind := _enumeration(model, name)) is not None]
        if not kinds or not isinstance(value, dict) or name not in value:
            continue
        models = [model for model, kind in kinds if _accepts(kind, value[name])]
        if not models:
            allowed = {one for _, kind in kinds for one in kind.allowed_values}
            yield f"{child_key(key, name)} is {as_json(value[name])}: expected {_one_of(allowed)}"
            return
    yield from min((list(schema_problems(model, value, key)) for model in models), key=len)


def _enumeration(model: Any, name: str) -> type[ModelSimple] | None:
    """Return the enumeration that *model* has under the key *name*, if it has one there."""
    if not (isinstance(model, type) and issubclass(model, ModelNormal) and name in model.openapi_types):
        return None
    kind = model.openapi_types[name][0]
    return kind if isinstance(kind, type) and issubclass(kind, ModelSimple) and kind.allowed_values else None


def _one_of(values: Iterable[object]) -> str:
    return "one of " + ", ".join(sorted(map(str, values)))


def _client_problems(model: Any, body: Any) -> Iterator[str]:
    """Yield what the client itself does not accept, for example a text that is longer than its model allows."""
    try:
        parsed = model(**body, _spec_property_naming=True)
    except OpenApiException as error:
        yield str(error)
    else:
        yield from _unknown_parts(parsed, "")


def _unknown_parts(part: Any, key: str) -> Iterator[str]:
    """Yield each part of a parsed payload that the client would send although it does not know it."""
    if isinstance(part, ModelComposed):
        part = part.get_oneof_instance()
    if isinstance(part, UnparsedObject):
        yield f"{key} is unknown to Datadog's client"
    elif isinstance(part, ModelSimple):
        if part.allowed_values and not _accepts(type(part), part.value):
            yield f"{key} is {as_json(part.value)}, which is unknown to Datadog's client"
    elif isinstance(part, ModelNormal):
        for name, written in part.attribute_map.items():
            if name in part:
                yield from _unknown_parts(part[name], child_key(key, written))
    elif isinstance(part, list):
        for index, item in enumerate(part):
            yield from _unknown_parts(item, f"{key}[{index}]")
