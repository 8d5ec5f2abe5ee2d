"""The ids."""

from uuid import UUID

from registration_persistence.domain.ids import new_id, new_id_bytes


def test_ids_are_ordered_by_time() -> None:
    """A thousand UUIDv7 are in the order of their creation, also within a millisecond."""
    ids = [new_id() for _ in range(1000)]

    assert ids == sorted(ids)
    assert len(set(ids)) == 1000
    assert {7} == {each.version for each in ids}


def test_the_bytes_of_an_id() -> None:
    """They are ordered by time as well."""
    first, second = new_id_bytes(), new_id_bytes()

    assert first < second
    assert (first, 7) == (UUID(bytes=first).bytes, UUID(bytes=first).version)
