"""`registration_infra.constructs.proxy`: RDS Proxy."""

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
