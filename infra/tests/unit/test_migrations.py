"""`registration_infra.constructs.migrations`: the migration function."""

from policies import granted, plain
from templates import PROXY, templates_of, text_of


def test_migrations_may_only_read_two_secrets() -> None:
    """They log in with the secret of the cluster, and create the login of the application's secret."""
    template = templates_of("dev").database
    ((key, _),) = template.all("KMS::Key").items()
    names = ("ClusterSecretAttachment", "ApplicationSecretAttachment")
    secrets = [
        next(f"{{{name}}}" for name in template.all("SecretsManager::SecretTargetAttachment") if name.startswith(start))
        for start in names
    ]

    found = [plain(statement) for statement in granted(template, "MigrationsFunctionRole")]
    by_resource = [statement for statement in found if statement["Action"] == "secretsmanager:GetSecretValue"]
    assert set(secrets) == {
        secret
        for statement in by_resource
        for secret in ([statement["Resource"]] if statement["Resource"].startswith("{") else secrets)
    }
    assert {"secretsmanager:GetSecretValue", "kms:Decrypt"} == {statement["Action"] for statement in found}
    assert {f"{{{key}.Arn}}"} == {one["Resource"] for one in found if one["Action"] == "kms:Decrypt"}


def test_migrations_have_the_address_and_secrets_of_the_cluster() -> None:
    """The function runs once at a time, with the longest timeout, and connects to the cluster as administrator."""
    template = templates_of("dev").database
    function = template.named("Lambda::Function", "Migrations")
    variables = {name: text_of(value) for name, value in function["Environment"]["Variables"].items()}

    assert ("registration-dev-migrate", "handler.handle", 900, 1) == (
        function["FunctionName"],
        function["Handler"],
        function["Timeout"],
        function["ReservedConcurrentExecutions"],
    )
    assert (["arm64"], "python3.13") == (function["Architectures"], function["Runtime"])
    assert variables.pop("APP_DATABASE_HOST").startswith("{AuroraCluster")
    assert variables.pop("APP_DATABASE_SECRET_ARN").startswith("{ClusterSecretAttachment")
    assert variables.pop("APP_DATABASE_APPLICATION_SECRET_ARN").startswith("{ApplicationSecretAttachment")
    assert {
        "APP_ENVIRONMENT": "dev",
        "APP_DATABASE_PORT": "5432",
        "APP_DATABASE_NAME": "registrations",
        "APP_DATABASE_SSLMODE": "verify-full",
        "APP_DATABASE_OWNER_ROLE": "registration_owner",
    } == variables
    assert (
        next(iter(template.all("RDS::DBInstance"))) in template.resource("Lambda::Function", "Migrations")["DependsOn"]
    )


def test_migrations_bypass_the_proxy() -> None:
    """A proxy may end the idle session that holds the lock against two migrations at the same time."""
    variables = templates_of("staging", PROXY).database.named("Lambda::Function", "Migrations")["Environment"][
        "Variables"
    ]

    assert text_of(variables["APP_DATABASE_HOST"]).startswith("{AuroraCluster")
    assert "APP_DATABASE_POOL" not in variables
