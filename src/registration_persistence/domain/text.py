"""`plain_text`: the first check of each argument that is text."""


def plain_text(value: object, max_characters: int) -> str | None:
    """Return *value* if it is a string of at most *max_characters*, otherwise `None`.

    The length is checked before anything reads or copies the text. A string of a subclass is returned as a `str`, and
    no method of the subclass is called, because it may return another length or another text.
    """
    # isinstance() also believes what an object says about its class.
    if not isinstance(value, str) or not issubclass(type(value), str) or str.__len__(value) > max_characters:
        return None
    return str.__str__(value)
