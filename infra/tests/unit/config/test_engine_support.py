"""`config.engine_support`: the warnings before the end of support."""

from datetime import date

import pytest
from environment_files import CLUSTER, EXISTING, accepted
from registration_infra.config import AuroraConfig
from registration_infra.config.engine_support import support_warnings


def warnings(version: str, today: str) -> list[str]:
    """Return the warnings for a cluster of *version* on the day *today*."""
    config = accepted(CLUSTER, {"aurora.engine_version": f'"{version}"'})
    return [*support_warnings(config, today=date.fromisoformat(today))]


@pytest.mark.parametrize(
    ("version", "last_silent", "first_day", "end"),
    [
        ("15.99", "2026-11-11", "2026-11-12", "2027-11-11"),
        ("16.99", "2027-11-10", "2027-11-11", "2028-11-09"),
        ("17.99", "2028-11-08", "2028-11-09", "2029-11-08"),
        ("18.99", "2029-11-14", "2029-11-15", "2030-11-14"),
    ],
)
def test_a_major_version_is_reported_a_year_before(version: str, last_silent: str, first_day: str, end: str) -> None:
    """The warning starts a year before PostgreSQL stops to fix the major version, and does not stop afterwards."""
    assert warnings(version, last_silent) == []
    for day in (first_day, end, "2040-01-01"):
        (problem,) = warnings(version, day)
        assert problem == (
            f'aurora.engine_version is "{version}": PostgreSQL {version[:2]} receives no fixes after {end}: '
            "upgrade to a newer major version, see docs/runbooks/upgrade-postgresql.md"
        )


@pytest.mark.parametrize(
    ("version", "released", "last_silent", "first_day"),
    [
        *((each, "2026-02-26", "2027-02-26", "2027-02-27") for each in ("16.13", "16.12", "16.0", "17.9", "18.3")),
        *((each, "2026-05-14", "2027-05-14", "2027-05-15") for each in ("16.14", "17.10", "18.4")),
        *((each, "2026-09-07", "2027-09-07", "2027-09-08") for each in ("16.16", "17.11", "18.5", "18.6")),
    ],
)
def test_an_old_minor_version_is_reported_after_a_year(
    version: str, released: str, last_silent: str, first_day: str
) -> None:
    """AWS keeps a minor version for about a year; the minor versions of one release day have the same age."""
    assert warnings(version, last_silent) == []
    (problem,) = warnings(version, first_day)
    assert problem.startswith(f'aurora.engine_version is "{version}": it was released on {released} or earlier')


@pytest.mark.parametrize("version", ["16.17", "17.13", "18.7"])
def test_a_newer_minor_version_is_not_reported(version: str) -> None:
    """The age of a version that this table does not know yet is unknown."""
    assert warnings(version, "2027-10-01") == []


def test_the_age_of_the_default_version_is_known() -> None:
    """An environment that names no version is warned a year after the release of the default too."""
    version = AuroraConfig.model_fields["engine_version"].default

    assert any("AWS keeps a minor version for about a year" in each for each in warnings(version, "2028-01-01"))


def test_both_ends_can_be_reported() -> None:
    """An old minor version of an old major version gives both warnings."""
    assert len(warnings("15.17", "2027-03-01")) == 2


def test_each_accepted_major_version_has_a_date() -> None:
    """The accepted versions are those of the table; an existing database is not checked."""
    pattern = AuroraConfig.model_json_schema()["properties"]["engine_version"]["pattern"]
    assert pattern.startswith("^1[5-8]")
    assert [*support_warnings(accepted(EXISTING), today=date(2040, 1, 1))] == []
