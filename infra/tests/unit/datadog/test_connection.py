"""`datadog.connection`: the keys and the site are checked before a connection is opened."""

from collections.abc import Mapping

import pytest
from datadog_command import Command
from fake_datadog import API_KEY, APP_KEY, KEYS


@pytest.mark.parametrize(
    ("environ", "messages"),
    [
        ({}, ["DD_API_KEY is missing: expected", "DD_APP_KEY is missing: expected"]),
        ({"DD_API_KEY": API_KEY}, ["DD_APP_KEY is missing: expected letters, digits, - and _, because --apply"]),
        ({**KEYS, "DD_APP_KEY": f"{APP_KEY}\n"}, ["DD_APP_KEY is malformed: expected letters, digits"]),
        ({**KEYS, "DD_SITE": "datadog.example"}, ['DD_SITE is "datadog.example": expected one of ap1.datadoghq.com']),
    ],
)
def test_wrong_keys_are_rejected(command: Command, environ: Mapping[str, str], messages: list[str]) -> None:
    """If a key is missing or malformed, or the site is not one of Datadog's, `--apply` sends nothing."""
    problems = command.problems(apply=True, environ=environ)

    assert len(problems) == len(messages)
    for problem, message in zip(problems, messages, strict=True):
        assert problem.startswith(message)
