"""`lazy_pattern`: a regular expression that is compiled at its first use."""

import re

import pytest

from registration_persistence.lazy_pattern import lazy_pattern


def test_a_lazy_pattern_is_compiled_at_its_first_use_with_its_flags() -> None:
    """Its definition compiles nothing, so that an error in it appears at the first use."""
    pattern, wrong = lazy_pattern("a(.)", re.IGNORECASE), lazy_pattern("(")

    assert pattern.fullmatch("AB")
    assert [pattern.search("b"), pattern.match("b"), pattern.findall("abac")] == [None, None, ["b", "c"]]
    assert pattern.sub("x", "abc") == "xc"
    assert "fullmatch" in vars(pattern)
    with pytest.raises(re.error):
        wrong.search("")
