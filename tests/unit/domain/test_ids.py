"""The ids."""

from uuid import UUID

from registration_persistence.domain.ids import new_id, new_id_text


def test_ids_are_ordered_by_time() -> None:
    """A thousand UUIDv7 are in the order of their creation, also within a millisecond."""
    ids = [new_id() for _ in range(1000)]

    assert ids == sorted(ids)
    assert len(set(ids)) == 1000
    assert {7} == {each.version for each in ids}


def test_the_text_of_an_id() -> None:
    """It has the usual form and is ordered by time as well."""
    first, second = new_id_text(), new_id_text()

    assert first < second
    assert (first, 7) == (str(UUID(first)), UUID(first).version)
