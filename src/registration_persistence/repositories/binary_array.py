"""`BinaryArray`: an array in PostgreSQL's binary format, built faster than psycopg adapts a list."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Any

from psycopg import Connection, postgres, pq
from psycopg.adapt import Dumper

# Dimensions, whether there are NULLs, the element's type; then the length and the lower bound of the dimension.
_HEADER = Struct("!iiIii").pack
_EMPTY = Struct("!iiI").pack

_length = Struct("!i").pack
_NULL_LENGTH = -1


@dataclass(frozen=True, slots=True, repr=False)
class BinaryArray:
    """An array as a parameter.

    Args:
        data: The array in PostgreSQL's binary format.
    """

    data: bytes


class _BinaryArrayDumper(Dumper):
    format = pq.Format.BINARY

    def dump(self, obj: BinaryArray) -> bytes:
        """Return the bytes that are sent."""
        return obj.data


def accept_binary_arrays(driver: Connection[Any]) -> None:
    """Let *driver* send each `BinaryArray`."""
    driver.adapters.register_dumper(BinaryArray, _BinaryArrayDumper)


def binary_array(element: str, values: Iterable[bytes | None]) -> BinaryArray:
    """Return an array.

    Args:
        element: The name of the elements' type in PostgreSQL, one of its own types.
        values: The elements in the binary format of their type; `None` is NULL.
    """
    oid, elements = postgres.types[element].oid, list(values)
    if not elements:
        return BinaryArray(_EMPTY(0, 0, oid))
    lengths = {_NULL_LENGTH if value is None else len(value) for value in elements}
    if len(lengths) == 1:  # ids and times, for example; one call for all is several times as fast
        length = _length(*lengths)
        body = length + length.join([value or b"" for value in elements])
    else:
        body = b"".join(_parts(elements))
    return BinaryArray(_HEADER(1, _NULL_LENGTH in lengths, oid, len(elements), 1) + body)


def _parts(elements: Iterable[bytes | None]) -> Iterator[bytes]:
    """Yield the length and the bytes of each element."""
    for value in elements:
        if value is None:
            yield _length(_NULL_LENGTH)
        else:
            yield _length(len(value))
            yield value
