"""The ARN of a secret: its form, and the partition that belongs to its region."""

import re
from collections.abc import Mapping

from registration_persistence.database.settings_limits import MAX_QUOTED_CHARACTERS
from registration_persistence.lazy_pattern import lazy_pattern

SECRET_ARN = lazy_pattern(
    r"arn:(?P<partition>aws(?:-[a-z]+)*):secretsmanager:(?P<region>[a-z]+(?:-[a-z]+)+-\d+):\d{12}:secret:[\w/+=.@!-]+",
    re.ASCII,
)
"""The ARN of a secret, with the groups `partition` and `region`.

The name may have any length, the characters that Secrets Manager allows, and the `!` of the names that RDS gives to the
passwords that it manages. The six random characters at its end may be missing.
"""

_MAX_ARN_CHARACTERS = 2048
_MAX_SEARCHED_CHARACTERS = 10_000

# The start of the regions of each partition. All other regions belong to `aws`.
_PARTITIONS: Mapping[str, str] = {
    "cn-": "aws-cn",
    "us-gov-": "aws-us-gov",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "eu-isoe-": "aws-iso-e",
    "us-isof-": "aws-iso-f",
    "eusc-": "aws-eusc",
}


def arn_problem(arn: str, name: str) -> str | None:
    """Return the problem of the ARN of a secret, as one sentence about *name*; `None` if there is none."""
    if not isinstance(arn, str):
        return f"{name} is of the type {type(arn).__name__}: expected text"
    match = SECRET_ARN.fullmatch(arn) if str.__len__(arn) <= _MAX_ARN_CHARACTERS else None
    if match is None:
        return f"{name} is {quoted(arn)}: expected arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:NAME"
    expected = next((partition for start, partition in _PARTITIONS.items() if match["region"].startswith(start)), "aws")
    # AWS may add a partition that this table does not have.
    unknown = expected == "aws" and match["partition"] not in _PARTITIONS.values()
    if match["partition"] != expected and not unknown:
        return f"{name} names the partition {match['partition']} and the region {match['region']}: expected {expected}"
    return None


def quoted(text: str) -> str:
    """Return *text* in quotes for an error message, or a placeholder if it looks like a URL or a secret's value.

    A long text is cut off.
    """
    if str.__len__(text) > _MAX_SEARCHED_CHARACTERS:
        return f"a value of {str.__len__(text)} characters"
    if re.search(r'@|://|[{"]', text):
        return "a value that is not shown, as it may hold a password"
    return repr(text) if len(text) <= MAX_QUOTED_CHARACTERS else f"{text[:MAX_QUOTED_CHARACTERS]!r}..."
