"""One normaliser: an address as it was typed → the key that it is compared by."""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from email_validator import EmailNotValidError, ValidatedEmail, validate_email

from registration_persistence.errors import InvalidEmail

KEY_REVISION = 1
"""Stored beside each key; a change of the rules below is a new revision."""

# RFC 5321, sections 4.5.3.1.1 and 4.5.3.1.3: a local part has 64 octets at most, and a path 256 with its brackets.
_LONGEST_LOCAL_PART = 64

_LONGEST_ADDRESS = 254

# What every mail server takes as it is, and no normalisation but lower case changes.
_PLAIN = re.compile(r"((?:[A-Za-z0-9_+-]+\.)*[A-Za-z0-9_+-]+)@([A-Za-z0-9.-]+)", re.ASCII)

_DOMAINS_REMEMBERED = 10_000

# Where the validator's message goes on in IDNA's words, it quotes the domain.
_QUOTATION = re.compile(r" \(.*'.*\)")

# Controls, format characters (bidi controls among them), surrogates, private use, unassigned, and every separator.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"})

# Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties.txt, where the category is a letter or a mark.
_IGNORABLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"
    + "".join(map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)


@dataclass(frozen=True, slots=True, repr=False)
class EmailAddress:
    """A mailbox; `repr` does not show it.

    Args:
        address: As typed, without space around it. Mail goes here.
        key: What two spellings of the same mailbox share: local part NFKC and lower case, domain as IDNA A-labels.
    """

    address: str
    key: str


def normalise_email(address: str) -> EmailAddress:
    """Check *address* and return it with its comparison key.

    Case and Unicode presentation make no difference to the key; dots and `+tag` do, for only the mailbox's own
    provider knows whether they matter. `casefold` is not used: it would merge `straße@` and `strasse@`.

    Raises:
        InvalidEmail: The address cannot receive mail, or cannot be compared safely. The message says why and does not
            repeat the address.
    """
    if not isinstance(address, str):
        raise InvalidEmail(f"the e-mail address is of type {type(address).__name__}: expected a string")
    trimmed = address.strip()
    plain = _PLAIN.fullmatch(trimmed)
    if plain and len(plain[1]) <= _LONGEST_LOCAL_PART and len(trimmed) <= _LONGEST_ADDRESS:
        return EmailAddress(trimmed, f"{plain[1].lower()}@{_plain_domain(plain[2])}")
    return _carefully_normalised(trimmed)


def _carefully_normalised(trimmed: str) -> EmailAddress:
    parts = _validated(trimmed)
    key = f"{_folded(parts.local_part)}@{_ascii_domain(parts)}"
    # Folding can make what was harmless special: U+FF20 becomes "@", U+2024 a dot, U+2100 "a/c".
    again = _validated(key)
    if f"{_folded(again.local_part)}@{_ascii_domain(again)}" != key:
        raise InvalidEmail("the e-mail address changes its meaning when it is normalised")
    return EmailAddress(trimmed, key)


@lru_cache(maxsize=_DOMAINS_REMEMBERED)
def _plain_domain(domain: str) -> str:
    """Return the key of *domain*; most people are with a few providers, and checking one is what takes the time."""
    return _ascii_domain(_validated(f"a@{domain}"))


def _validated(address: str) -> ValidatedEmail:
    if len(address) > _LONGEST_ADDRESS or len(address.encode(errors="replace")) > _LONGEST_ADDRESS:
        raise InvalidEmail(f"the e-mail address is longer than {_LONGEST_ADDRESS} octets")
    if any(unicodedata.category(char) in _REFUSED_CATEGORIES or char in _IGNORABLE for char in address):
        raise InvalidEmail("the e-mail address has a space, or a character that is invisible or unassigned")
    try:
        parts = validate_email(address, check_deliverability=False, strict=True)
    except EmailNotValidError as error:
        reason = _QUOTATION.sub("", str(error))
    else:
        if len(parts.local_part.encode()) <= _LONGEST_LOCAL_PART:
            return parts
        reason = f"The part before the @-sign is longer than {_LONGEST_LOCAL_PART} octets."
    # Outside the `except`: the validator's frames hold the address.
    raise InvalidEmail(f"the e-mail address is not valid: {reason}")


def _folded(local_part: str) -> str:
    """Return the fixed point of NFKC and lower case, which one pass of each does not always reach."""
    folded = unicodedata.normalize("NFKC", local_part).lower()
    return folded if folded == local_part else _folded(folded)


def _ascii_domain(parts: ValidatedEmail) -> str:
    return parts.ascii_domain.lower()
