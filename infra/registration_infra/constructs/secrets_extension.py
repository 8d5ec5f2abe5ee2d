"""AWS's Parameters and Secrets Lambda Extension, which serves secrets to a function on localhost."""

from collections.abc import Mapping
from typing import Final

from aws_cdk import aws_lambda as lambda_
from aws_cdk.region_info import Fact, FactName

from registration_infra.config import InfraConfigError

# The version that the CDK knows, as `ParamsAndSecretsVersions.V1_0_103`.
_VERSION: Final = "1.0.103"
_VARIABLES: Final[Mapping[str, str]] = {
    # The function reads one secret.
    "PARAMETERS_SECRETS_EXTENSION_CACHE_SIZE": "1",
    "PARAMETERS_SECRETS_EXTENSION_LOG_LEVEL": "warn",
    # The longest that AWS accepts. A login that is refused makes the package bypass the extension.
    "SECRETS_MANAGER_TTL": "300",
    # Without a limit, the extension would wait for a silent endpoint forever.
    "SECRETS_MANAGER_TIMEOUT_MILLIS": "5000",
}


def add_secrets_extension(function: lambda_.Function, *, region: str) -> Mapping[str, str]:
    """Add the extension to *function* as a layer, and return the environment variables that configure it.

    `params_and_secrets` of `lambda_.Function` does the same, but only while a function is created.

    Args:
        function: The function. Its role needs the permission to read the secret, as without the extension.
        region: The region of the function.

    Raises:
        InfraConfigError: The CDK knows no layer for this region and the architecture of *function*.
    """
    architecture = function.architecture.name
    arn = Fact.find(region, FactName.params_and_secrets_lambda_layer(_VERSION, architecture))
    if arn is None:
        problem = (
            f'application.secret_source is "extension": expected "secrets-manager" in {region}, because the CDK knows '
            f"no Parameters and Secrets Lambda Extension for {architecture} there"
        )
        raise InfraConfigError(f"the function {function.node.path}", [problem])
    function.add_layers(lambda_.LayerVersion.from_layer_version_arn(function, "SecretsExtension", arn))
    return _VARIABLES
