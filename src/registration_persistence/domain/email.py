"""`normalise_email`: the comparison key of an address."""

import os
import re
import unicodedata
from dataclasses import field
from functools import lru_cache
from typing import TYPE_CHECKING

from registration_persistence.domain.text import plain_text
from registration_persistence.errors import InvalidEmail
from registration_persistence.lazy_pattern import lazy_pattern
from registration_persistence.light_dataclass import dataclass

if TYPE_CHECKING:
    from email_validator import ValidatedEmail

KEY_REVISION = 1
"""The revision of the rules below, stored beside each key; a change of the rules needs a new revision."""

# RFC 5321, sections 4.5.3.1.1 and 4.5.3.1.3: a local part has at most 64 octets, a path 256 with its brackets.
_MAX_LOCAL_PART_BYTES = 64
_MAX_ADDRESS_BYTES = 254

# With the white space around it; checked before anything reads the address.
_MAX_TYPED_CHARACTERS = 512

_TOO_LONG = f"the e-mail address is longer than {_MAX_ADDRESS_BYTES} bytes"

# The validator lists every character that it rejects.
_MAX_REASON_CHARACTERS = 150

# Addresses that every mail server accepts, and that normalisation changes only to lower case.
_PLAIN = lazy_pattern(r"((?:[A-Za-z0-9_+-]+\.)*[A-Za-z0-9_+-]+)@([A-Za-z0-9.-]+)", re.ASCII)

_MAX_CACHED_DOMAINS = 10_000

_MAX_LABEL_BYTES = 63

# The last labels that the validator rejects; the email_validator package calls them special-use domain names.
_SPECIAL_USE_NAMES = frozenset({"arpa", "invalid", "local", "localhost", "onion", "test"})

# Domains that are never assigned, so that no mail can be sent to them.
_RESERVED_FOR_TESTS = frozenset({"test", "local", "localhost", "invalid"})
_END_OF_A_VALID_DOMAIN = ".com"

# The part of the validator's message that comes from IDNA and quotes the domain.
_QUOTATION = lazy_pattern(r" \(.*'.*\)")

# Controls, format characters (bidi controls among them), surrogates, private use, unassigned, and every separator.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"})

# Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties.txt, if the category is a letter or a mark.
_IGNORABLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"
    + "".join(map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)


@dataclass(frozen=True, slots=True)
class EmailAddress:
    """An address and its comparison key; `repr` shows neither.

    Args:
        address: The address as it was typed, without surrounding white space; mail is sent to it.
        key: The key that all spellings of a mailbox share: the local part in NFKC and lower case, the domain as IDNA
            A-labels.
    """

    address: str = field(repr=False)
    key: str = field(repr=False)


def normalise_email(address: str) -> EmailAddress:
    """Check *address* and return it with its comparison key.

    The key ignores case and Unicode presentation. It keeps dots and `+tag`, because only the provider of the mailbox
    knows whether they matter. `casefold` is not used, because it would merge `straße@` and `strasse@`.

    Raises:
        InvalidEmail: The address cannot receive mail, or cannot be compared safely. The message says why and does not
            repeat the address.
    """
    if not isinstance(address, str):
        raise InvalidEmail(f"the e-mail address is of type {type(address).__name__}: expected a string")
    typed = plain_text(address, _MAX_TYPED_CHARACTERS)
    if typed is None:
        raise InvalidEmail(_TOO_LONG)
    trimmed = typed.strip()
    if len(trimmed) > _MAX_ADDRESS_BYTES or len(trimmed.encode(errors="replace")) > _MAX_ADDRESS_BYTES:
        raise InvalidEmail(_TOO_LONG)
    plain = _PLAIN.fullmatch(trimmed)
    try:
        if plain and len(plain[1]) <= _MAX_LOCAL_PART_BYTES:
            return EmailAddress(trimmed, f"{plain[1].lower()}@{_plain_domain(plain[2])}")
        return _validated_and_folded(trimmed)
    except InvalidEmail:
        if not _test_domains():
            raise
    return _validated_and_folded(trimmed, _test_domains())


def _test_domains() -> tuple[str, ...]:
    """Return the reserved domains that a service's tests may use; none in production, whatever the variable contains.

    They are read for each rejected address, because a test may set the variables at any time.
    """
    if os.environ.get("APP_ENVIRONMENT") not in ("test", "local"):
        return ()
    given = os.environ.get("APP_TEST_EMAIL_DOMAINS", "").lower().replace(",", " ").split()
    domains = (domain.strip(".") for domain in given)
    return tuple(domain for domain in domains if domain.rpartition(".")[2] in _RESERVED_FOR_TESTS)


def _validated_and_folded(trimmed: str, test_domains: tuple[str, ...] = ()) -> EmailAddress:
    parts = _validated(trimmed, test_domains)
    key = f"{_folded(parts.local_part)}@{_ascii_domain(parts)}"
    # Folding can produce special characters: U+FF20 becomes "@", U+2024 becomes a dot, U+2100 becomes "a/c".
    again = _validated(key, test_domains)
    if f"{_folded(again.local_part)}@{_ascii_domain(again)}" != key:
        raise InvalidEmail("the e-mail address changes its meaning when it is normalised")
    return EmailAddress(trimmed, key)


@lru_cache(maxsize=_MAX_CACHED_DOMAINS)
def _plain_domain(domain: str) -> str:
    """Return the key of *domain*, cached, because validation is slow and most people use few providers."""
    name = domain.lower()
    return name if _is_plain_domain(name) else _ascii_domain(_validated(f"a@{domain}"))


def _is_plain_domain(name: str) -> bool:
    """Return whether *name* is certainly a domain that the validator accepts without a change.

    The validator decides about all others, and gives the reason of a rejection. Its import would cost a tenth of a
    cold start.

    Args:
        name: ASCII letters in lower case, digits, hyphens and dots; at most 252 bytes.
    """
    labels = name.split(".")
    return (
        len(labels) > 1
        and labels[-1] not in _SPECIAL_USE_NAMES
        and labels[-1][-1:].isalpha()
        and "xn--" not in name
        and all(map(_is_plain_label, labels))
    )


def _is_plain_label(label: str) -> bool:
    """Return whether *label* has a valid length and hyphens only inside, but not in both of its places 3 and 4."""
    return 0 < len(label) <= _MAX_LABEL_BYTES and label[0] != "-" and label[-1] != "-" and not label.startswith("--", 2)


def _validated(address: str, test_domains: tuple[str, ...] = ()) -> "ValidatedEmail":
    if len(address) > _MAX_ADDRESS_BYTES or len(address.encode(errors="replace")) > _MAX_ADDRESS_BYTES:
        raise InvalidEmail(_TOO_LONG)
    if any(unicodedata.category(char) in _REFUSED_CATEGORIES or char in _IGNORABLE for char in address):
        raise InvalidEmail("the e-mail address has a space, or a character that is invisible or unassigned")
    # Imported here, because a process that checks no address, such as a worker or a command, needs none of its modules.
    from email_validator import EmailNotValidError, validate_email

    domain = unicodedata.normalize("NFKC", address.rpartition("@")[2]).lower()
    is_test = any(domain == known or domain.endswith(f".{known}") for known in test_domains)
    # The validator has no option to accept these domains, but a domain with another end has the same rules.
    end = _END_OF_A_VALID_DOMAIN if is_test else ""
    try:
        parts = validate_email(address + end, check_deliverability=False, strict=True)
    except EmailNotValidError as error:
        reason = _shortened(_QUOTATION.sub("", str(error)))
    else:
        parts.ascii_domain = parts.ascii_domain.removesuffix(end)
        if len(parts.local_part.encode()) <= _MAX_LOCAL_PART_BYTES:
            return parts
        reason = f"The part before the @-sign is longer than {_MAX_LOCAL_PART_BYTES} bytes."
    # Raised outside of `except`, because the frames of the validator contain the address.
    raise InvalidEmail(f"the e-mail address is not valid: {reason}")


def _shortened(reason: str) -> str:
    return reason if len(reason) <= _MAX_REASON_CHARACTERS else f"{reason[:_MAX_REASON_CHARACTERS]}..."


def _folded(local_part: str) -> str:
    """Return the fixed point of NFKC and lower case; one pass of each does not always reach it."""
    folded = unicodedata.normalize("NFKC", local_part).lower()
    return folded if folded == local_part else _folded(folded)


def _ascii_domain(parts: "ValidatedEmail") -> str:
    return parts.ascii_domain.lower()
