"""Environments for tests, and their synthesised templates."""

import json
import tomllib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app import build_app
from registration_infra import EnvironmentConfig, parse

_TEMPLATE = ".template.json"
ENVIRONMENTS = Path(__file__).parents[1] / "environments"
SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:registration-AbCdEf"
KEY = "arn:aws:kms:eu-central-1:123456789012:key/0e1e2b3c-0000-4000-8000-000000000000"
VAULT = "arn:aws:backup:eu-west-1:999999999999:backup-vault:central"
DATADOG: dict[str, dict[str, Any]] = {
    "datadog": {"site": "datadoghq.eu", "api_key_secret_arn": SECRET},
    "network": {"nat_gateways": 1},
}
EXISTING_NETWORK = {
    "vpc_id": "vpc-12345678",
    "subnet_ids": ["subnet-12345678", "subnet-87654321"],
    "secrets_endpoint_security_group_id": "sg-87654321",
}
EXISTING: dict[str, Any] = {
    "provision_aurora": False,
    "aurora": None,
    "existing": {
        "host": "db.example.org",
        "sslmode": "require",
        "port": 5433,
        "name": "registrations",
        "secret_arn": SECRET,
        "secret_key_arn": KEY,
        "security_group_id": "sg-12345678",
    },
    "network": EXISTING_NETWORK,
}
EXPRESS: dict[str, Any] = {
    "provision_aurora": False,
    "aurora": None,
    "network": None,
    "existing": {
        "host": "d.cluster-abc.eu-central-1.rds.amazonaws.com",
        "name": "registrations",
        "auth": "iam",
        "user": "registration_iam",
        "resource_id": "cluster-ABCDEFGHIJKL01234",
    },
}
EXTENSION: dict[str, dict[str, Any]] = {
    "application": {"secret_source": "extension", "tls_groups": "P-256:X25519", "ssl_negotiation": "direct"}
}
SNAP_START: dict[str, dict[str, Any]] = {"application": {"snap_start": True}}
EVERYTHING = {
    "aurora": {"readers": 2, "performance_insights": True, "max_capacity": 4},
    "backup": {
        "central_account": "999999999999",
        "own_plan": True,
        "copy_to_vault_arn": VAULT,
        "restore_test": True,
    },
    "alarms": {"email": "operators@example.com"},
    **EXTENSION,
    **DATADOG,
}
PROXY = {"aurora": {"proxy": True, "rotation": "single"}}
IAM = {"aurora": {"authentication": "iam", "readers": 1}}
IAM_PROXY = {"aurora": {**IAM["aurora"], "proxy": True}}
PAUSE = {"aurora": {"min_capacity": 0, "auto_pause_seconds": 600}}
VARIANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "dev": ("dev", {}),
    "staging": ("staging", {}),
    "prod": ("prod", {}),
    "everything": ("prod", EVERYTHING),
    "proxy": ("staging", PROXY),
    "iam": ("staging", IAM),
    "iam proxy": ("staging", {**IAM_PROXY, **SNAP_START}),
    "pause": ("dev", PAUSE),
    "existing VPC": ("dev", {"network": EXISTING_NETWORK}),
    "existing": ("dev", EXISTING),
    "express": ("dev", EXPRESS),
}
"""Environments that together execute every branch of the constructs."""
CLUSTERS = [name for name, (_, changes) in VARIANTS.items() if changes.get("provision_aurora") is not False]
"""The variants that have a database stack."""


def config_of(name: str, changes: Mapping[str, Any] | None = None) -> EnvironmentConfig:
    """Return the environment *name* with *changes* to its tables; `None` removes a table."""
    values = tomllib.loads((ENVIRONMENTS / f"{name}.toml").read_text(encoding="utf-8"))
    for key, value in deepcopy(dict(changes or {})).items():
        if value is None:
            del values[key]
        elif isinstance(value, dict):
            values[key] = {**values.get(key, {}), **value}
        else:
            values[key] = value
    return parse(name, values, source="a test")


@dataclass(frozen=True, slots=True)
class Template:
    """A synthesised template."""

    body: Mapping[str, Any]

    def all(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the properties of all resources of a type, by logical id; *kind* is the type without `AWS::`."""
        return {
            name: resource.get("Properties", {})
            for name, resource in self.body["Resources"].items()
            if resource["Type"] == f"AWS::{kind}"
        }

    def one(self, kind: str) -> dict[str, Any]:
        """Return the properties of the only resource of a type."""
        ((_, properties),) = self.all(kind).items()
        return properties

    def named(self, kind: str, start: str) -> dict[str, Any]:
        """Return the properties of the only resource of a type whose logical id starts with *start*."""
        (properties,) = (found for name, found in self.all(kind).items() if name.startswith(start))
        return properties

    def resource(self, kind: str, start: str = "") -> dict[str, Any]:
        """Return the whole definition of the only resource of a type whose logical id starts with *start*."""
        (found,) = (
            resource
            for name, resource in self.body["Resources"].items()
            if resource["Type"] == f"AWS::{kind}" and name.startswith(start)
        )
        assert isinstance(found, dict)
        return found

    def statements(self, role: str) -> list[dict[str, Any]]:
        """Return the policy statements of the role whose logical id starts with *role*."""
        return [
            statement
            for policy in self.all("IAM::Policy").values()
            if any(each["Ref"].startswith(role) for each in policy["Roles"])
            for statement in policy["PolicyDocument"]["Statement"]
        ]


@dataclass(frozen=True, slots=True)
class Templates:
    """The templates of one environment.

    Attributes:
        files: The content of each file of the synth, by file name.
        stacks: The templates, by stack name.
    """

    files: Mapping[str, str]
    stacks: Mapping[str, Template]

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The manifest, which the command line of the CDK reads."""
        manifest = json.loads(self.files["manifest.json"])
        assert isinstance(manifest, dict)
        return manifest

    @property
    def texts(self) -> Mapping[str, str]:
        """The templates as they were written, by file name."""
        return {name: text for name, text in self.files.items() if name.endswith(_TEMPLATE)}

    @property
    def database(self) -> Template:
        """The template of the database stack."""
        return self._ending_in("-database")

    @property
    def application(self) -> Template:
        """The template of the application stack."""
        return self._ending_in("-application")

    @property
    def restore_testing(self) -> Template:
        """The template of the stack of the restore test."""
        return self._ending_in("-restore-testing")

    def _ending_in(self, end: str) -> Template:
        (template,) = (template for name, template in self.stacks.items() if name.endswith(end))
        return template


def templates_of(name: str, changes: Mapping[str, Any] | None = None) -> Templates:
    """Return the templates of an environment, which is synthesised once per test run; see `config_of`."""
    return _synthesised(name, json.dumps(changes or {}))


@cache
def _synthesised(name: str, changes: str) -> Templates:
    with TemporaryDirectory() as folder:
        build_app(
            config_of(name, json.loads(changes)), require_layer=False, run_checks=False, outdir=Path(folder)
        ).synth()
        files = {path.name: path.read_text(encoding="utf-8") for path in Path(folder).glob("*.json")}
    return Templates(
        files,
        {name.removesuffix(_TEMPLATE): Template(json.loads(text)) for name, text in files.items() if _TEMPLATE in name},
    )


def text_of(value: Any) -> str:
    """Return a value of a template as text, with references in braces."""
    match value:
        case {"Ref": name}:
            return f"{{{name}}}"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"{{{name}.{attribute}}}"
        case {"Fn::Join": [separator, parts]}:
            return str(separator).join(text_of(part) for part in parts)
        case _:
            return str(value)
