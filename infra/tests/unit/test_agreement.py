"""`infra/` and the package agree, although `infra/` does not import the package: variables, versions and modes."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import get_args, get_type_hints

from key_values import VALUES
from registration_infra.config.application import ApplicationConfig
from registration_infra.config.aurora import AuroraConfig
from registration_infra.config.existing import ExistingDatabase
from registration_infra.parameters import application_variables, connection_parameters, variable_name
from templates import CLUSTERS, SECRET, VARIANTS, config_of

from registration_persistence import DatabaseSettings
from registration_persistence.errors import ConfigurationError

INFRA = Path(__file__).parents[2]
PACKAGE = INFRA.parent / "src" / "registration_persistence"
VARIABLE = re.compile(r"\bAPP_[A-Z_]*[A-Z]\b")


def variables_in(folder: Path) -> set[str]:
    """Return the names of variables of the package in all modules of *folder*."""
    return {name for path in folder.rglob("*.py") for name in VARIABLE.findall(path.read_text(encoding="utf-8"))}


def test_the_package_reads_each_variable_that_is_set() -> None:
    """Each variable that a stack sets is one that the package reads, because an unknown one would have no effect."""
    named = variables_in(INFRA / "registration_infra") - {"APP_DATABASE"}
    clusters = [config_of(*VARIANTS[variant]).aurora for variant in CLUSTERS]
    published = {variable_name(name) for each in clusters if each for name in connection_parameters(each)}

    assert {"APP_DATABASE_OWNER_ROLE", "APP_DATABASE_SECRET_ARN", "APP_DATABASE_POOL"} <= named
    assert named | published <= variables_in(PACKAGE)


def test_the_package_supports_each_version_of_the_server() -> None:
    """The oldest engine version of a cluster is the oldest version of PostgreSQL that `bootstrap` accepts."""
    checks = (PACKAGE / "schema" / "bootstrap_checks.py").read_text(encoding="utf-8")
    (oldest,) = re.findall(r"_MIN_SERVER_VERSION = (\d+)_000\b", checks)

    assert int(oldest) == 10 * min(major for major in range(9, 30) if is_accepted(f"{major}.0"))


def is_accepted(version: str) -> bool:
    """Return whether a cluster may have the engine *version*."""
    fields = {"database_name": "r", "deletion_protection": True, "force_ssl": True, "engine_version": version}
    try:
        AuroraConfig.model_validate(fields)
    except ValueError:
        return False
    return True


def test_both_sides_accept_the_same_arns() -> None:
    """Each ARN of a secret that an environment file may contain is accepted by the package, and no other."""
    _, accepted, refused = VALUES["existing.secret_arn"]

    for written in (*accepted, *(value for value in refused if value.startswith('"'))):
        arn = json.loads(written)
        try:
            DatabaseSettings(host="db.example.org", name="registrations", secret_arn=arn)
        except ConfigurationError:
            assert written in refused
        else:
            assert written in accepted


def test_each_mode_of_tls_is_one_of_the_package() -> None:
    """The package accepts each `sslmode` of an environment file, and both encrypt."""
    modes = {*get_args(AuroraConfig.model_fields["sslmode"].annotation)}

    assert modes == {"verify-full", "require"} <= {*get_args(get_type_hints(DatabaseSettings)["sslmode"])}
    assert str(sorted(modes, reverse=True))[1:-1] in str(ExistingDatabase.model_fields["sslmode"].annotation)


def test_the_package_accepts_each_setting_of_the_services() -> None:
    """Each accepted value of a key becomes the setting of the package with the same name."""
    common = {"APP_DATABASE_HOST": "db.example.org", "APP_DATABASE_NAME": "x", "APP_DATABASE_SECRET_ARN": SECRET}
    for name in ("secret_source", "tls_groups", "ssl_negotiation"):
        for text in VALUES[f"application.{name}"][1]:
            application = ApplicationConfig.model_validate({name: json.loads(text)})
            settings = DatabaseSettings.from_env({**common, **application_variables(application)})

            assert asdict(settings)[name] == json.loads(text)
