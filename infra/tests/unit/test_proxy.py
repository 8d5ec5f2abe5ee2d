"""`registration_infra.constructs.proxy`: RDS Proxy."""

from policies import plain, secret_statements
from templates import PROXY, templates_of, text_of


def test_proxy_requires_tls_and_uses_the_application_secret() -> None:
    """The application connects to the proxy, with the pool `proxy` and the certificates of the Lambda image."""
    templates = templates_of("staging", PROXY)
    proxy = templates.database.one("RDS::DBProxy")
    ((name, _),) = templates.database.all("RDS::DBProxy").items()

    assert (True, "POSTGRESQL") == (proxy["RequireTLS"], proxy["EngineFamily"])
    pool = templates.database.one("RDS::DBProxyTargetGroup")["ConnectionPoolConfigurationInfo"]
    assert pool["MaxConnectionsPercent"] == 91  # of 189, so that 17 stay reserved
    (auth,) = proxy["Auth"]
    assert ("POSTGRES_SCRAM_SHA_256", "DISABLED") == (auth["ClientPasswordAuthType"], auth["IAMAuth"])
    assert text_of(auth["SecretArn"]).startswith("{ApplicationSecret")
    assert f"{{{name}.Endpoint}}" == text_of(templates.database.named("SSM::Parameter", "ParameterHost")["Value"])
    variables = templates.application.one("Lambda::Function")["Environment"]["Variables"]
    assert ("proxy", "/etc/pki/tls/certs/ca-bundle.crt") == (
        variables["APP_DATABASE_POOL"],
        variables["APP_DATABASE_SSL_ROOT_CERT"],
    )
    assert {} == templates_of("staging").database.all("RDS::DBProxy")


def test_role_of_the_proxy_reads_one_secret() -> None:
    """The role decrypts only through Secrets Manager, and the proxy is created after its policy."""
    template = templates_of("staging", PROXY).database
    ((key, _),) = template.all("KMS::Key").items()
    secret, decrypt = template.statements("ProxyRole")

    assert ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"] == secret["Action"]
    assert text_of(secret["Resource"]).startswith("{ApplicationSecretAttachment")
    assert secret_statements([], f"{{{key}.Arn}}") == [plain(decrypt)]
    policies = [name for name in template.all("IAM::Policy") if name.startswith("ProxyRole")]
    assert set(policies) < set(template.resource("RDS::DBProxy")["DependsOn"])


def test_certificate_of_the_proxy_is_verified() -> None:
    """`aurora.sslmode` is about the certificate of the cluster, which only the migrations connect to directly."""
    template = templates_of("staging", {"aurora": {**PROXY["aurora"], "sslmode": "require"}}).database

    assert template.named("SSM::Parameter", "ParameterSslmode")["Value"] == "verify-full"
    variables = template.named("Lambda::Function", "Migrations")["Environment"]["Variables"]
    assert variables["APP_DATABASE_SSLMODE"] == "require"
