"""`dataclass(frozen=True, slots=True)`, of which a class costs a tenth at import.

The decorator of the standard library compiles six methods for each class, which was a twentieth of a cold start. The
classes here share theirs. They are dataclasses in all other respects: `fields`, `replace`, `match`, `pickle`.
"""

from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, FrozenInstanceError
from dataclasses import dataclass as standard_dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from inspect import Signature

__all__ = ["dataclass"]

_set = object.__setattr__

_PARAMETERS = "__dataclass_params__"


def _init(self: Any, /, *positional: Any, **named: Any) -> None:
    fields: dict[str, Field[Any]] = self.__dataclass_fields__
    if positional:
        named = _with_names(type(self), positional, named)
    if named.keys() == fields.keys():
        for name, value in named.items():
            _set(self, name, value)
        return
    if not named.keys() <= fields.keys():
        raise TypeError(f"{type(self).__name__} has no field {min(named.keys() - fields)!r}")
    for name, field in fields.items():
        _set(self, name, named[name] if name in named else _default(type(self), field))


def _with_names(cls: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    names: tuple[str, ...] = cls.__match_args__
    if len(positional) > len(names):
        raise TypeError(f"{cls.__name__} has {len(names)} fields, but {len(positional)} values were given")
    given = dict(zip(names, positional, strict=False))
    if not named:
        return given
    if twice := given.keys() & named:
        raise TypeError(f"{cls.__name__} got two values for {min(twice)!r}")
    return given | named


def _default(cls: Any, field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    if field.default is MISSING:
        raise TypeError(f"{cls.__name__} got no value for {field.name!r}")
    return field.default


def _repr(self: Any) -> str:
    shown = (field.name for field in self.__dataclass_fields__.values() if field.repr)
    return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


def _values(self: Any) -> list[Any]:
    return [getattr(self, name) for name in self.__dataclass_fields__]


def _restore(self: Any, values: list[Any]) -> None:
    for name, value in zip(self.__dataclass_fields__, values, strict=True):
        _set(self, name, value)


def _eq(self: Any, other: object) -> bool:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(tuple(_values(self)))


def _refuse_assignment(self: Any, name: str, value: object) -> None:
    if _is_frozen(self, name):
        raise FrozenInstanceError(f"cannot assign to field {name!r}")
    _set(self, name, value)


def _refuse_deletion(self: Any, name: str) -> None:
    if _is_frozen(self, name):
        raise FrozenInstanceError(f"cannot delete field {name!r}")
    object.__delattr__(self, name)


def _is_frozen(self: Any, name: str) -> bool:
    """Return whether *name* cannot be changed; a subclass that is not a dataclass may have attributes of its own."""
    return name in self.__dataclass_fields__ or _PARAMETERS in vars(type(self))


class _LazySignature:
    """The signature of a class, for `help` and `inspect`."""

    def __get__(self, instance: object, owner: Any) -> "Signature":
        from inspect import Parameter, Signature

        def parameters() -> Iterator[Parameter]:
            for field in owner.__dataclass_fields__.values():
                has_default = (field.default, field.default_factory) != (MISSING, MISSING)
                default = _default(owner, field) if has_default else Parameter.empty
                yield Parameter(field.name, Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=field.type)

        return Signature(list(parameters()))


_METHODS = {
    "__init__": _init,
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": _hash,
    "__setattr__": _refuse_assignment,
    "__delattr__": _refuse_deletion,
    "__getstate__": _values,
    "__setstate__": _restore,
    "__signature__": _LazySignature(),
}

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: Literal[True], slots: Literal[True]) -> Callable[[type], type]:  # noqa: ARG001 type checkers read them
        """Return a decorator that makes a class a frozen dataclass with slots.

        Fields have defaults, factories of defaults, and `repr`; the other options of `dataclasses.field` are ignored.
        """

        def decorate(cls: type) -> type:
            made = standard_dataclass(init=False, repr=False, eq=False, slots=True)(cls)
            for name, method in _METHODS.items():
                setattr(made, name, method)
            # The standard library reads them if a dataclass inherits from this class.
            parameters = getattr(made, _PARAMETERS)
            parameters.init = parameters.repr = parameters.eq = parameters.frozen = True
            return made

        return decorate
