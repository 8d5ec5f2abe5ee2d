"""`counted`: a number with its noun."""

from registration_persistence.quantities import counted


def test_a_noun_agrees_with_its_number() -> None:
    """One row, two rows; a noun that ends in s gets es."""
    assert [counted(n, "row") for n in (0, 1, 2, 2000)] == ["0 rows", "1 row", "2 rows", "2,000 rows"]
    assert [counted(n, "process") for n in (1, 2)] == ["1 process", "2 processes"]
