"""`light_dataclass.dataclass`: a class behaves like one of `dataclasses.dataclass`."""

import copy
import dataclasses
import importlib
import inspect
import pickle
import pkgutil
from dataclasses import field
from typing import Any

import pytest

import registration_persistence
from registration_persistence.light_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Light:
    """A class of the package."""

    name: str
    secret: str = field(repr=False)
    number: int = 7
    items: list[int] = field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Standard:
    """A class of the standard library with these fields."""

    name: str
    secret: str = field(repr=False)
    number: int = 7
    items: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Other:
    """A class with the same fields."""

    name: str
    secret: str
    number: int
    items: Any


Both = pytest.mark.parametrize("cls", [Light, Standard])


@Both
def test_arguments_have_positions_names_and_defaults(cls: Any) -> None:
    """A factory is called for each object."""
    made = cls("a", secret="s")

    assert (made.name, made.secret, made.number, made.items) == ("a", "s", 7, [])
    assert made == cls(items=[], number=7, secret="s", name="a") == cls("a", "s", 7, [])
    assert made.items is not cls("a", "s").items


@Both
@pytest.mark.parametrize(
    ("positional", "named"),
    [(("a",), {}), (("a", "s", 1, [], 2), {}), (("a", "s"), {"name": "b"}), (("a", "s"), {"nmae": "b"})],
    ids=["missing", "too many", "twice", "unknown"],
)
def test_wrong_arguments_are_type_errors(cls: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
    """The message names the class, and no value."""
    with pytest.raises(TypeError, match=cls.__name__):
        cls(*positional, **named)


@Both
def test_objects_are_frozen_and_have_no_dictionary(cls: Any) -> None:
    """Assignment and deletion fail."""
    made = cls("a", "s")

    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'name'"):
        made.name = "b"
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'name'"):
        del made.name
    assert not hasattr(made, "__dict__")


@Both
def test_repr_shows_only_what_may_be_shown(cls: Any) -> None:
    """A secret is absent."""
    assert repr(cls("a", "s")) == f"{cls.__name__}(name='a', number=7, items=[])"


@Both
def test_equality_and_hash_follow_the_class_and_the_values(cls: Any) -> None:
    """An object of another class with the same values is another value."""
    one, other = cls("a", "s", 1, ()), cls("b", "s", 1, ())

    assert one != other
    assert one != Other("a", "s", 1, ())
    assert {one, cls("a", "s", 1, ())} == {one}
    with pytest.raises(TypeError, match="unhashable"):
        hash(cls("a", "s"))


@Both
def test_objects_can_be_matched_copied_replaced_and_pickled(cls: Any) -> None:
    """`asdict` and `fields` work, too."""
    made = cls("a", "s", items=[1])

    match made:
        case cls(name, secret, number=number):
            assert (name, secret, number) == ("a", "s", 7)
    assert cls.__match_args__ == ("name", "secret", "number", "items")
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert made == pickle.loads(pickle.dumps(made, protocol))  # noqa: S301 our own bytes
    assert copy.copy(made) == copy.deepcopy(made) == made
    assert copy.deepcopy(made).items is not made.items
    assert dataclasses.replace(made, name="b") == cls("b", "s", 7, [1])
    assert dataclasses.asdict(made) == {"name": "a", "secret": "s", "number": 7, "items": [1]}


@Both
def test_a_derived_dataclass_is_frozen(cls: Any) -> None:
    """A derived dataclass is frozen too."""
    derived: Any = dataclasses.make_dataclass("Derived", [("extra", int, 0)], bases=(cls,), frozen=True)
    made = derived("a", "s", items=(), extra=3)

    assert made == derived("a", "s", 7, (), 3) != derived("a", "s", 7, (), 4)
    assert {made: 1}[derived("a", "s", 7, (), 3)] == 1
    for name in ("name", "extra", "other"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, name, 1)
    with pytest.raises(TypeError, match="non-frozen"):
        dataclasses.make_dataclass("Thawed", [("extra", int, 0)], bases=(cls,))


def test_a_derived_class_may_have_attributes_of_its_own() -> None:
    """The fields stay frozen; a class with slots of the standard library fails with another error."""
    plain: Any = type("Plain", (Light,), {})("a", "s", items=())
    plain.note = "own"
    assert plain.note == "own"
    del plain.note
    with pytest.raises(dataclasses.FrozenInstanceError):
        plain.name = "b"
    with pytest.raises(dataclasses.FrozenInstanceError):
        del plain.name


def test_the_signature_is_that_of_the_standard_library() -> None:
    """For `help`, and for frameworks that inject arguments."""
    light, standard = (inspect.signature(cls).parameters for cls in (Light, Standard))

    assert [*light] == [*standard]
    assert [(p.kind, p.annotation) for p in light.values()] == [(p.kind, p.annotation) for p in standard.values()]
    assert [p.default is p.empty for p in light.values()] == [p.default is p.empty for p in standard.values()]


def test_no_class_of_the_package_uses_an_option_that_is_ignored() -> None:
    """A field that must not be compared, for example, needs the decorator of the standard library."""
    checked = 0
    for found in pkgutil.walk_packages(registration_persistence.__path__, "registration_persistence."):
        if "__main__" in found.name or ".testing" in found.name:
            continue
        for cls in vars(importlib.import_module(found.name)).values():
            if getattr(cls, "__init__", None) is Light.__init__:
                checked += 1
                assert not hasattr(cls, "__post_init__"), cls
                assert all(f.init and f.compare and f.hash is None and not f.kw_only for f in dataclasses.fields(cls))
    assert checked > 25
