"""`DatadogConfig`: the table [datadog]."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from registration_infra.config.key_types import SecretArn
from registration_infra.config.table import Expected, Table

# The sites that the construct of `datadog-cdk-constructs-v2` accepts.
SITES: Final = (
    *("datadoghq.com", "datadoghq.eu", "us3.datadoghq.com", "us5.datadoghq.com"),
    *("ap1.datadoghq.com", "ap2.datadoghq.com", "uk1.datadoghq.com"),
    *("ddog-gov.com", "us2.ddog-gov.com"),
)


def _known_site(site: str) -> str:
    if site not in SITES:
        raise ValueError("no site of Datadog")
    return site


_Site = Annotated[str, AfterValidator(_known_site), Expected("a Datadog site, such as datadoghq.eu")]
_PythonLayer = Annotated[int, Expected("the version of the Datadog-Python layer, {ge} to {le}")]
_ExtensionLayer = Annotated[int, Expected("the version of the Datadog-Extension layer, {ge} to {le}")]


class DatadogConfig(Table):
    """The monitoring by Datadog, which needs access to the internet."""

    site: _Site = Field(description="The site of the organisation, such as `datadoghq.eu`.")
    api_key_secret_arn: SecretArn = Field(description="The secret with the API key.")
    python_layer_version: _PythonLayer = Field(
        default=120, ge=1, le=10_000, description="The layer Datadog-Python for the functions' runtime."
    )
    extension_layer_version: _ExtensionLayer = Field(
        default=90, ge=1, le=10_000, description="The layer Datadog-Extension."
    )
    event_metrics: bool = Field(
        default=False,
        description="Whether the services send the events of the package to Datadog as metrics; "
        "the monitors count log lines otherwise.",
    )
    database_monitoring: bool = Field(
        default=True, description="Whether a database login for Datadog's agent is created."
    )
