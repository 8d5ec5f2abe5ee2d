"""The command `python -m datadog`: its arguments, its output and its exit code."""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from registration_infra import ENVIRONMENTS, InfraConfigError, load

from datadog.api_errors import API_ERRORS, explanation
from datadog.client import DatadogClient
from datadog.connection import KEY_VARIABLES, open_connection
from datadog.files import Resource, read_resources
from datadog.placeholders import placeholder_values
from datadog.problems import DatadogError, InvalidInput, as_json
from datadog.sync import sync

_INFRA = Path(__file__).parents[1]


def main(
    argv: Sequence[str] | None = None,
    *,
    infra: Path = _INFRA,
    environ: Mapping[str, str] = os.environ,
    host: str | None = None,
) -> int:
    """Check the files, and with `--apply` make Datadog match them.

    Args:
        argv: The arguments of the command. Defaults to those of the process.
        infra: The folder that contains `environments/`, `datadog/monitors/` and `datadog/dashboards/`.
        environ: The environment variables, with the keys of Datadog.
        host: The URL of an API to use instead of the one at `DD_SITE`.

    Returns:
        0 if it worked, 1 if Datadog rejected a request or did not answer, 2 if the input was invalid.
    """
    try:
        _run(_arguments(argv), infra, environ, host)
    except (InvalidInput, InfraConfigError) as error:
        code, message = 2, str(error)
    except DatadogError as error:
        code, message = 1, str(error)
    else:
        return 0
    sys.stderr.write(f"datadog: {_without_keys(message, environ)}\n")
    return code


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m datadog",
        description="Check the monitors and dashboards of one environment. With --apply, make Datadog match them.",
    )
    parser.add_argument("--environment", required=True, metavar="NAME", help=f"one of {', '.join(ENVIRONMENTS)}")
    parser.add_argument(
        "--notify", action="append", default=[], metavar="@HANDLE", help="recipient of the alerts, may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print the complete payloads; ignored with --apply")
    parser.add_argument(
        "--apply",
        action="store_true",
        help="create, update and delete in Datadog, with DD_API_KEY, DD_APP_KEY and DD_SITE (default: datadoghq.com)",
    )
    return parser.parse_args(argv)


def _run(arguments: argparse.Namespace, infra: Path, environ: Mapping[str, str], host: str | None) -> None:
    problems = list(_argument_problems(arguments))
    if problems:
        raise InvalidInput(problems)
    config = load(infra / "environments" / f"{arguments.environment}.toml")
    values = {**placeholder_values(config), "notify": " ".join(arguments.notify)}
    resources = read_resources(infra / "datadog", values)
    if arguments.apply:
        _apply(environ, host, arguments.environment, resources)
    elif arguments.json:
        payloads = [{"kind": resource.kind, "file": resource.name, "body": resource.body} for resource in resources]
        _print(json.dumps(payloads, indent=2))
    else:
        _print_summary(arguments.environment, resources)
    if not arguments.notify and not arguments.json:
        _print("no alert will notify anyone: name a recipient with --notify")


def _argument_problems(arguments: argparse.Namespace) -> Iterator[str]:
    if arguments.environment not in ENVIRONMENTS:
        yield f"--environment is {as_json(arguments.environment)}: expected one of {', '.join(ENVIRONMENTS)}"
    for handle in arguments.notify:
        if not re.fullmatch(r"@[^\s${}]+", handle):
            yield f"--notify is {as_json(handle)}: expected a Datadog handle, such as @slack-registration or @pagerduty"


def _apply(environ: Mapping[str, str], host: str | None, environment: str, resources: Sequence[Resource]) -> None:
    with open_connection(environ, host) as connection:
        client = DatadogClient(connection, environment)
        try:
            sync(client, resources, _print)
        except API_ERRORS as error:
            raise DatadogError(explanation(error, connection.configuration.host, client.request)) from None


def _print_summary(environment: str, resources: Sequence[Resource]) -> None:
    for resource in resources:
        _print(f"{resource.kind:9}  {resource.name:22}  {resource.body.get('query') or resource.body['title']}")
    _print(f"{len(resources)} checked for {environment}, none sent; --json prints the payloads, --apply sends them")


def _without_keys(message: str, environ: Mapping[str, str]) -> str:
    """Return *message* without the API keys, which an answer of Datadog could repeat."""
    for name in KEY_VARIABLES:
        message = message.replace(environ.get(name) or "\0", f"<{name}>")
    return message


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
