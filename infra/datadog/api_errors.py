"""Error messages for requests to Datadog that failed."""

import urllib3
from datadog_api_client.exceptions import ApiException, OpenApiException

API_ERRORS = (OpenApiException, urllib3.exceptions.HTTPError)
"""All errors that a request to Datadog raises."""

_HINTS = {
    401: "DD_API_KEY and DD_APP_KEY must belong to the organisation at DD_SITE",
    403: "DD_APP_KEY needs monitors_read, monitors_write, dashboards_read and dashboards_write, and must be unscoped, "
    "because it creates log monitors; both keys must belong to the organisation at DD_SITE",
    429: "too many requests",
}


def explanation(error: Exception, host: str, request: str) -> str:
    """Return a message about *error*, with a hint if its cause is known.

    Args:
        error: One of `API_ERRORS`.
        host: The URL of the API.
        request: The request in words, such as `to list the monitors`.
    """
    if isinstance(error, ApiException):
        return f"Datadog answered {error.status} when asked {request}: {_reason(error)}"
    if isinstance(error, OpenApiException):
        return f"Datadog's answer when asked {request} cannot be read: {error}"
    return f"{host} did not answer when asked {request}: {error}"


def _reason(error: ApiException) -> str:
    errors = error.body.get("errors") if isinstance(error.body, dict) else None
    reason = "; ".join(map(str, errors)) if isinstance(errors, list) else str(error.reason)
    hint = _HINTS.get(error.status or 0, "")
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if "x-ratelimit-reset" in headers:
        hint = f"{hint}, more are accepted in {headers['x-ratelimit-reset']} s".lstrip(", ")
    return f"{reason} ({hint})" if hint else reason
