"""`refuse_another_server`: no variable and no file of the AWS SDK sends the request for a secret out of AWS."""

import re
from typing import Any
from urllib.parse import urlsplit

from registration_persistence.errors import SecretRefused

_SUFFIXES = (
    "amazonaws.com",
    "amazonaws.com.cn",
    "api.aws",
    "api.amazonwebservices.com.cn",
    "amazonaws.eu",
    "c2s.ic.gov",
    "sc2s.sgov.gov",
    "cloud.adc-e.uk",
    "csp.hci.ic.gov",
)

# Also with FIPS, dual-stack, or through the endpoint of a VPC.
_ENDPOINT = re.compile(
    r"(?:[a-z0-9-]+\.)?secretsmanager(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?:vpce\.)?"
    rf"(?:{'|'.join(map(re.escape, _SUFFIXES))})"
)


def refuse_another_server(arn: str, region: str, request: Any, **_details: object) -> None:
    """Raise `SecretRefused` if a request would leave AWS; the AWS SDK calls it before it sends each request.

    Args:
        arn: The ARN of the secret, for the message.
        region: The region of the secret.
        request: The request of the AWS SDK.
    """
    if not is_endpoint_of_aws(request.url, region):
        url = urlsplit(request.url)
        raise SecretRefused(
            f"cannot read the secret {arn}: the AWS SDK would send the request to {url.scheme}://{url.hostname}, which "
            f"is not an endpoint of Secrets Manager in {region}: unset AWS_ENDPOINT_URL and "
            "AWS_ENDPOINT_URL_SECRETS_MANAGER, and remove endpoint_url from the configuration files of AWS"
        )


def is_endpoint_of_aws(url: str, region: str) -> bool:
    """Return whether *url* is an endpoint of Secrets Manager in *region*, public or of a VPC, with TLS."""
    parts = urlsplit(url)
    found = _ENDPOINT.fullmatch(parts.hostname or "")
    return found is not None and found["region"] == region and parts.scheme == "https" and parts.port in (None, 443)
