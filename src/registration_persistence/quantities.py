"""`counted`: a number with its noun."""


def counted(quantity: int, noun: str) -> str:
    """Return a number with its noun: `1 row`, `2,000 processes`.

    Args:
        quantity: The number, 0 or more.
        noun: The noun in the singular; its plural ends in s, or in es after an s.
    """
    ending = "es" if noun.endswith("s") else "s"
    return f"{quantity:,} {noun}" if quantity == 1 else f"{quantity:,} {noun}{ending}"
