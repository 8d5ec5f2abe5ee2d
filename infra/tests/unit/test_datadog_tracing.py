"""`registration_infra.constructs.datadog`: tracing of the service."""

import io
import re
import tarfile
from importlib.resources import files

from policies import granted
from registration_infra.config.datadog import SITES
from templates import DATADOG, SECRET, templates_of


def test_datadog_traces_the_service() -> None:
    """Datadog's layers wrap the handler, the API key may be read, and SQL is tagged with the service name only."""
    template = templates_of("prod", DATADOG).application
    function = template.one("Lambda::Function")
    variables = function["Environment"]["Variables"]

    assert function["Handler"] == "datadog_lambda.handler.handler"
    assert ("handler.handle", "datadoghq.eu", "prod", "registration-prod", "service", SECRET) == tuple(
        variables[name]
        for name in (
            "DD_LAMBDA_HANDLER",
            "DD_SITE",
            "DD_ENV",
            "DD_SERVICE",
            "DD_DBM_PROPAGATION_MODE",
            "DD_API_KEY_SECRET_ARN",
        )
    )
    assert 3 == len(function["Layers"])
    assert SECRET in str(granted(template, "ServiceRole"))
    assert "DD_SITE" not in str(templates_of("prod").application.body)


def test_each_site_is_one_that_the_construct_accepts() -> None:
    """An environment file may name exactly the sites that Datadog's construct accepts, which raises for others."""
    (archive,) = (each for each in files("datadog_cdk_constructs_v2._jsii").iterdir() if each.name.endswith(".tgz"))
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as content:
        constants = content.extractfile("package/lib/constants.js")
        assert constants is not None
        (listed,) = re.findall(r"exports\.siteList = \[(.*?)\]", constants.read().decode(), re.DOTALL)

    assert set(SITES) == set(re.findall(r'"([^"]+)"', listed))


def test_api_key_without_the_suffix_of_its_arn() -> None:
    """The suffix that Secrets Manager adds to the name may be missing."""
    secret = SECRET.removesuffix("-AbCdEf")
    changes = {**DATADOG, "datadog": {**DATADOG["datadog"], "api_key_secret_arn": secret}}

    statements = granted(templates_of("prod", changes).application, "ServiceRole")

    assert f"{secret}-??????" in str(statements)
