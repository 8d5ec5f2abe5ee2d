"""The connection to Datadog: the keys, the site, the time limits."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import urllib3
from datadog_api_client import ApiClient, Configuration

from datadog.problems import InvalidInput, as_json

KEY_VARIABLES = ("DD_API_KEY", "DD_APP_KEY")

_DEFAULT_SITE = "datadoghq.com"
_CONNECT_TIMEOUT_SECONDS, _READ_TIMEOUT_SECONDS = 5, 30


@contextmanager
def open_connection(environ: Mapping[str, str], host: str | None) -> Iterator[ApiClient]:
    """Return an API client that is closed at the end of the block.

    Args:
        environ: Contains `DD_API_KEY`, `DD_APP_KEY` and optionally `DD_SITE` (default: `datadoghq.com`).
        host: The URL of an API to use instead of the one at `DD_SITE`, or `None`.

    Raises:
        InvalidInput: if a key is missing or malformed, or the site is unknown.
    """
    configuration = _configuration(environ, host)
    problems = list(_key_problems(environ))
    site = environ.get("DD_SITE") or _DEFAULT_SITE
    sites = configuration.get_host_settings()[0]["variables"]["site"]["enum_values"]
    if site not in sites:
        problems.append(f"DD_SITE is {as_json(site)}: expected one of {', '.join(sorted(set(sites)))}")
    if problems:
        raise InvalidInput(problems)
    configuration.server_variables["site"] = site
    client = ApiClient(configuration)
    try:
        yield client
    finally:
        client.rest_client.pool_manager.clear()
        client.close()


def _key_problems(environ: Mapping[str, str]) -> Iterator[str]:
    for name in KEY_VARIABLES:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", environ.get(name, "")):
            # Without the value: a malformed key is a secret too.
            state = "malformed" if environ.get(name) else "missing"
            yield f"{name} is {state}: expected letters, digits, - and _, because --apply is given"


def _configuration(environ: Mapping[str, str], host: str | None) -> Configuration:
    return Configuration(
        host=host,
        api_key={"apiKeyAuth": environ.get("DD_API_KEY", ""), "appKeyAuth": environ.get("DD_APP_KEY", "")},
        # No retry: if a monitor was created but the answer was lost, a retry would create it twice.
        retry_policy=urllib3.Retry(total=0),
        request_timeout=(_CONNECT_TIMEOUT_SECONDS, _READ_TIMEOUT_SECONDS),
    )
