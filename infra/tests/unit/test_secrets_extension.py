"""`registration_infra.constructs.secrets_extension`: the layer and the variables of AWS's extension for secrets."""

import json
from pathlib import Path
from typing import Any

import pytest
from app import build_app
from aws_cdk import App, Environment, Stack
from aws_cdk import aws_lambda as lambda_
from policies import connections, granted, plain
from registration_infra import InfraConfigError
from registration_infra.constructs.database_access import DatabaseAccess
from templates import EVERYTHING, EXISTING, EXTENSION, Template, config_of, templates_of, text_of

ARM64 = "arn:aws:lambda:eu-central-1:187925254637:layer:AWS-Parameters-and-Secrets-Lambda-Extension-Arm64:4"
EXTENSION_VARIABLES = {
    "PARAMETERS_SECRETS_EXTENSION_CACHE_SIZE": "1",
    "PARAMETERS_SECRETS_EXTENSION_LOG_LEVEL": "warn",
    "SECRETS_MANAGER_TTL": "300",
    "SECRETS_MANAGER_TIMEOUT_MILLIS": "5000",
}
VARIABLES = {
    "APP_DATABASE_SECRET_SOURCE": "extension",
    "APP_DATABASE_TLS_GROUPS": "P-256:X25519",
    "APP_DATABASE_SSL_NEGOTIATION": "direct",
    **EXTENSION_VARIABLES,
}


def variables(function: dict[str, Any]) -> dict[str, str]:
    """Return the environment variables of a function."""
    found = function["Environment"]["Variables"]
    assert isinstance(found, dict)
    return found


def allowed_to(template: Template) -> tuple[Any, ...]:
    """Return what a service may do: the statements of its role, and its connections."""
    return [plain(one) for one in granted(template, "ServiceRole")], connections(template, "Egress")


def test_the_service_has_the_layer_and_the_variables() -> None:
    """It reads the secret on localhost; its permissions and its way to Secrets Manager stay the same."""
    template, default = templates_of("dev", EXTENSION).application, templates_of("dev").application
    function = template.one("Lambda::Function")
    package, extension = map(text_of, function["Layers"])

    assert package.startswith("{Package")
    assert extension == ARM64
    assert variables(function) == {**variables(default.one("Lambda::Function")), **VARIABLES}
    assert allowed_to(template) == allowed_to(default)
    statements, allowed = allowed_to(template)
    assert ["secretsmanager:GetSecretValue", "kms:Decrypt"] == [one["Action"] for one in statements]
    assert 443 in {port for _, _, port in allowed}


def test_functions_of_the_administrator_keep_the_defaults() -> None:
    """Migrations and rotations read several versions of secrets themselves, and must work if a setting is wrong."""
    functions = templates_of("dev", EXTENSION).database.all("Lambda::Function")

    assert len(functions) == 3
    for name, function in functions.items():
        assert not variables(function).keys() & VARIABLES.keys(), name
        assert len(function["Layers"]) == 1, name


def test_datadog_and_the_extension_fit_on_one_function() -> None:
    """Lambda accepts at most five layers."""
    layers = templates_of("prod", EVERYTHING).application.one("Lambda::Function")["Layers"]

    assert len(layers) == 4
    assert ARM64 in map(text_of, layers)


@pytest.mark.parametrize("architecture", [lambda_.Architecture.ARM_64, lambda_.Architecture.X86_64])
def test_the_layer_is_that_of_the_cdk(architecture: lambda_.Architecture, tmp_path: Path) -> None:
    """Layer and names of variables are those that the CDK gives a function of the same architecture when it is created.

    Access is given to a function of another team, which is not made by `PythonFunction`.
    """
    config = config_of("dev", {**EXISTING, **EXTENSION})
    app = App(outdir=str(tmp_path), builtin_cloud_formation_validation=False)
    stack = Stack(app, "Services", env=Environment(account=config.account, region=config.region))
    access = DatabaseAccess(stack, "Database", config=config)
    theirs = lambda_.ParamsAndSecretsLayerVersion.from_version(lambda_.ParamsAndSecretsVersions.V1_0_103)
    function, _ = (
        lambda_.Function(
            stack,
            name,
            runtime=lambda_.Runtime.PYTHON_3_12,
            architecture=architecture,
            code=lambda_.Code.from_inline("def handle(event, context): ..."),
            handler="index.handle",
            params_and_secrets=extension,
            reserved_concurrent_executions=1,
            vpc=access.vpc,
            allow_all_outbound=False,
        )
        for name, extension in (("Ours", None), ("Theirs", theirs))
    )

    returned = access.environment_for(function)

    app.synth()
    template = Template(json.loads((tmp_path / "Services.template.json").read_text(encoding="utf-8")))
    ours, cdk = template.named("Lambda::Function", "Ours"), template.named("Lambda::Function", "Theirs")
    assert ours["Layers"] == cdk["Layers"]
    assert variables(ours) == returned
    assert EXTENSION_VARIABLES.keys() <= variables(cdk).keys()


def test_a_region_without_the_extension_is_refused() -> None:
    """One error names the function, the key and the region, before anything is deployed."""
    zones = ["ap-northeast-3a", "ap-northeast-3b"]
    config = config_of("dev", {"region": "ap-northeast-3", "network": {"availability_zones": zones}, **EXTENSION})

    with pytest.raises(InfraConfigError) as refused:
        build_app(config, require_layer=False, run_checks=False)

    assert str(refused.value) == (
        "the function registration-dev-application/Service/Function is wrong:\n"
        '  - application.secret_source is "extension": expected "secrets-manager" in ap-northeast-3, because the CDK '
        "knows no Parameters and Secrets Lambda Extension for arm64 there"
    )
