"""The licences of the dependencies: the page, and the rules for it."""

import licence_page
import pytest
from licence_rules import ALLOWED, EXTRAS, RUNTIME, TOOLS, is_allowed, licence_of


def test_the_page_of_licences_is_up_to_date() -> None:
    """It has the names and versions of the locked lists, and only licences that are allowed; else, `make licences`."""
    page = licence_page.page_sections()

    assert {
        section: {name: versions for name, (versions, _) in rows.items()} for section, rows in page.items()
    } == licence_page.locked_packages(), "run `make licences`"
    assert [] == [
        f"{name}: {licence}"
        for section, rows in page.items()
        for name, (_, licence) in rows.items()
        if not is_allowed(licence, section)
    ]
    assert licence_page.write_page(
        licence_page.locked_packages(), licence_page.licence_names()
    ) == licence_page.PAGE.read_text(encoding="utf-8")


def test_the_sections_of_the_licences() -> None:
    """The driver is installed by every service, greenlet with an extra, and ruff and the CDK only here."""
    found = licence_page.locked_packages()

    for section, names in (
        (RUNTIME, {"psycopg", "sqlalchemy", "mako"}),
        (EXTRAS, {"greenlet", "rich", "pygments", "ddtrace", "opentelemetry-api", "prometheus-client"}),
        (TOOLS, {"ruff", "codespell", "aws-cdk-lib", "aws-cdk", "pip-audit"}),
    ):
        assert names <= found[section].keys()
        assert not names & {name for other, rows in found.items() if other != section for name in rows}


@pytest.mark.parametrize(
    ("licence", "runtime", "tools"),
    [
        ("MIT", True, True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True, True),
        ("MIT OR AGPL-3.0-only", True, True),
        ("MIT AND AGPL-3.0-only", False, False),
        ("LGPL-3.0-only", True, True),
        ("GPL-2.0-only", False, True),
        ("AGPL-3.0-only", False, False),
        ("LicenseRef-Proprietary", False, False),
        ("", False, False),
    ],
)
def test_a_licence_must_be_in_the_list(licence: str, *, runtime: bool, tools: bool) -> None:
    """One side of an OR is enough, and each part of an AND is needed; only tools may have the GPL."""
    assert (is_allowed(licence, RUNTIME), is_allowed(licence, TOOLS)) == (runtime, tools)
    assert "" not in ALLOWED[RUNTIME]


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ({"license_expression": "MIT OR Apache-2.0"}, "MIT OR Apache-2.0"),
        ({"license": "Apache-2.0"}, "Apache-2.0"),
        ({"license": "Apache License 2.0"}, "Apache-2.0"),
        ({"license": "The MIT License\n\nCopyright", "classifier": ["License :: OSI Approved :: MIT License"]}, "MIT"),
        (
            {"classifier": ["License :: OSI Approved :: BSD License", "License :: OSI Approved :: MIT License"]},
            "BSD OR MIT",
        ),
        ({"license": "Business Source License"}, ""),
        ({"classifier": ["Topic :: Database"]}, ""),
        ({}, ""),
    ],
)
def test_the_licence_of_the_metadata(metadata: dict[str, object], licence: str) -> None:
    """The SPDX expression is preferred, then the older field, then the classifiers; otherwise there is none."""
    assert licence_of({"name": "made-up", **metadata}) == licence
