"""The summary that `import` prints."""

import re


def counts(printed: str) -> tuple[int, int, int]:
    """Return the numbers of imported, duplicate and rejected rows in the summary of an import."""
    found = re.findall(r"^ *([\d,]+)  (imported|duplicate|rejected)s?\b", printed, re.MULTILINE)
    number = {name: int(digits.replace(",", "")) for digits, name in found}
    return number["imported"], number["duplicate"], number["rejected"]
