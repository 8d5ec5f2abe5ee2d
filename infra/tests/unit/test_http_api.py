"""`registration_infra.constructs.http_api`: the API of the example service in each environment."""

import ast
import json
from pathlib import Path

import pytest
from registration_service.stack import ROUTES
from templates import SNAP_START, VARIANTS, Template, templates_of

HANDLER = Path(__file__).parents[3] / "examples/registration_service/function/handler.py"
# Values of a request that identify a person, or that the client chooses, among API Gateway's variables for access logs.
PERSONAL = ("path", "ip", "identity", "agent", "header", "query", "authorizer", "overrides")


def application(variant: str) -> Template:
    """Return the template of the service in a variant."""
    return templates_of(*VARIANTS[variant]).application


def test_the_api_has_the_routes_of_the_handler() -> None:
    """Each route of the handler is a route of the API, and there is no other one."""
    (assignment,) = (
        node
        for node in ast.parse(HANDLER.read_text(encoding="utf-8")).body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "ROUTES"
    )
    assert isinstance(assignment.value, ast.Dict)
    handled = {ast.literal_eval(key) for key in assignment.value.keys if key is not None}

    routes = {route["RouteKey"] for route in application("dev").all("ApiGatewayV2::Route").values()}

    assert routes == handled == set(ROUTES)


@pytest.mark.parametrize("variant", VARIANTS)
def test_access_log_has_no_personal_data(variant: str) -> None:
    """The access log has the route without its parameters, and no address, no browser, no path and no query string."""
    settings = application(variant).one("ApiGatewayV2::Stage")["AccessLogSettings"]

    fields = json.loads(settings["Format"])
    assert fields["routeKey"] == "$context.routeKey"
    assert not [value for value in fields.values() for word in PERSONAL if word in value.lower()]
    group = application(variant).named("Logs::LogGroup", "ApiLogs")
    assert group["LogGroupName"].startswith("/aws/vendedlogs/registration-")
    assert group["RetentionInDays"] > 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_api_limits_requests_and_answers_no_other_origin(variant: str) -> None:
    """The limit is that of the file; API Gateway gives up before the function does, and CORS is off."""
    template = application(variant)

    limits = template.one("ApiGatewayV2::Stage")["DefaultRouteSettings"]
    assert limits["ThrottlingRateLimit"] == limits["ThrottlingBurstLimit"] == 100
    assert "CorsConfiguration" not in template.one("ApiGatewayV2::Api")
    integration = template.one("ApiGatewayV2::Integration")
    assert integration["PayloadFormatVersion"] == "2.0"
    assert integration["TimeoutInMillis"] == 29_000 < template.one("Lambda::Function")["Timeout"] * 1000


@pytest.mark.parametrize("variant", VARIANTS)
def test_function_knows_its_address_and_its_secret(variant: str) -> None:
    """Links in mails point to the API, and the value of the secret is not in the template."""
    template = application(variant)
    variables = template.one("Lambda::Function")["Environment"]["Variables"]
    ((api, _),) = template.all("ApiGatewayV2::Api").items()
    ((secret, properties),) = template.all("SecretsManager::Secret").items()

    assert variables["SIGNUP_URL"] == {"Fn::GetAtt": [api, "ApiEndpoint"]}
    start, reference, end = variables["SIGNUP_SECRET"]["Fn::Join"][1]
    assert (start, reference) == ("{{resolve:secretsmanager:", {"Ref": secret})
    assert end.startswith(":SecretString:")
    generated = properties["GenerateSecretString"]
    # Letters and digits only, in groups of four: the base64 form of 32 bytes or more.
    assert generated == {"ExcludePunctuation": True, "PasswordLength": 64}


def test_limit_of_the_file() -> None:
    """`application.requests_per_second` limits the requests, also in a burst."""
    stage = templates_of("dev", {"application": {"requests_per_second": 7}}).application.one("ApiGatewayV2::Stage")

    assert stage["DefaultRouteSettings"] == {"ThrottlingRateLimit": 7, "ThrottlingBurstLimit": 7}


def test_the_api_invokes_the_alias_with_snap_start() -> None:
    """API Gateway may invoke the alias only if there is one, because the function itself starts without a snapshot."""
    template = templates_of("dev", SNAP_START).application
    ((alias, _),) = template.all("Lambda::Alias").items()

    assert template.one("ApiGatewayV2::Integration")["IntegrationUri"] == {"Ref": alias}
    permission = template.one("Lambda::Permission")
    assert permission["FunctionName"] == {"Ref": alias}
    assert permission["Principal"] == "apigateway.amazonaws.com"
    ((api, _),) = template.all("ApiGatewayV2::Api").items()
    assert {"Ref": api} in permission["SourceArn"]["Fn::Join"][1]
