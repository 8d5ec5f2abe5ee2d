#!/usr/bin/env python3
"""Check `monitors/*.json` and `dashboards/*.json` for one environment; with `--apply`, bring Datadog in line with them.

What is ours in Datadog says so itself: a monitor by its tags, a dashboard by the last line of its description. Both
name the environment and the file. Nothing else is changed or removed, and nothing at all where two claim to be the
same file.
"""

import argparse
import hashlib
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import urllib3
from datadog_api_client import ApiClient, Configuration
from datadog_api_client.exceptions import ApiException, OpenApiException
from datadog_api_client.model_utils import ModelComposed, ModelNormal, ModelSimple, model_to_dict
from datadog_api_client.v1.api.dashboards_api import DashboardsApi
from datadog_api_client.v1.api.monitors_api import MonitorsApi
from datadog_api_client.v1.model.dashboard import Dashboard
from datadog_api_client.v1.model.monitor import Monitor
from datadog_api_client.v1.model.monitor_update_request import MonitorUpdateRequest
from registration_infra import ENVIRONMENTS, EnvironmentConfig, InfraConfigError, load

OWNER = "managed_by:registration_persistence"
NEEDS_READERS = frozenset({"replica-lag"})
"""The monitors that an environment without readers does not get."""

_HERE = Path(__file__).parent
_BYTES_IN_ACU = 2 * 1024**3
_PLACEHOLDER = re.compile(r"\$\{([^{}]*)\}")
_THRESHOLD = re.compile(r"(<=|>=|==|!=|<|>) *(-?[\d.]+)$")
_MARKER = re.compile(re.escape(OWNER) + r" dashboard_id:(\S+) env:(\S+) digest:\S+$")
_RESERVED_TAGS = ("managed_by:", "monitor_id:", "env:", "digest:")
_SECONDS_TO_CONNECT, _SECONDS_TO_ANSWER = 5, 30
_HINTS = {
    401: "DD_API_KEY and DD_APP_KEY must be of the organisation at DD_SITE",
    403: "DD_APP_KEY needs monitors_read, monitors_write, dashboards_read and dashboards_write, and no scopes, as it "
    "makes log monitors; both keys must be of the organisation at DD_SITE",
    429: "too many requests",
}

Json = dict[str, Any]
Facts = Mapping[str, str | float]


class Refused(ValueError):
    """Something is wrong before anything was sent; `problems` lists all of it."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "nothing was sent:" + "".join(f"\n  - {problem}" for problem in self.problems)


class Failed(RuntimeError):
    """Datadog did not do what it was asked."""


def facts(config: EnvironmentConfig) -> dict[str, str | float]:
    """Return what the placeholders stand for in *config*'s environment; the one place that knows the shape of *config*.

    Raises:
        Refused: if the environment has no cluster of ours.
    """
    aurora = config.aurora
    if aurora is None:
        rule = "expected true, as there is no cluster of ours to watch"
        raise Refused([f"environments/{config.name}.toml: provision_aurora is false: {rule}"])
    # Datadog writes the values of tags in lower case, which these names are.
    cluster = f"registration-{config.name}"
    return {
        "environment": config.name,
        "cluster": cluster,
        "migration_function": f"{cluster}-migrate",
        "rotation_functions": f"{cluster}-rotate-*",
        "max_capacity": aurora.max_capacity,
        "max_connections": aurora.max_connections,
        "connections_warning": aurora.max_connections * 70 // 100,
        "connections_critical": aurora.max_connections * 80 // 100,
        "memory_warning": int(aurora.max_capacity * _BYTES_IN_ACU * 0.10),
        "memory_critical": int(aurora.max_capacity * _BYTES_IN_ACU * 0.05),
        "readers": aurora.readers,
    }


@dataclass(frozen=True, slots=True)
class Wanted:
    """What Datadog should have for one file.

    Args:
        kind: `monitor` or `dashboard`.
        name: The file's name without its ending.
        body: What is sent.
    """

    kind: str
    name: str
    body: Json


def wanted(folder: Path, known: Facts) -> list[Wanted]:
    """Return what the files in *folder* ask for, with *known* in the place of their placeholders.

    Raises:
        Refused: with every problem of every file.
    """
    found: list[Wanted] = []
    problems: list[str] = []
    for kind in ("monitor", "dashboard"):
        paths = sorted((folder / f"{kind}s").glob("*.json"))
        if not paths:
            # An empty folder is a wrong path more often than the wish to remove everything.
            problems.append(f"{kind}s: *.json is missing: expected at least one file")
        for path in paths:
            if path.stem in NEEDS_READERS and not known["readers"]:
                continue
            body = _read(kind, path, known, problems)
            if body is not None:
                mark = _marked_monitor if kind == "monitor" else _marked_dashboard
                found.append(Wanted(kind, path.stem, mark(path.stem, body, str(known["environment"]))))
    if problems:
        raise Refused(problems)
    return found


def _read(kind: str, path: Path, known: Facts, problems: list[str]) -> Json | None:
    shown = f"{kind}s/{path.name}"
    wrong: list[str] = []
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", path.stem):
        wrong.append(f"the name is {_shown(path.stem)}: expected a-z, 0-9 and single hyphens, as it becomes a tag")
    body: Any = None
    try:
        body = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_repetition)
    except (OSError, ValueError) as error:
        wrong.append(f"it cannot be read as JSON: {error}")
    else:
        body = render(body, known, "", wrong)
        # A placeholder that is left where a number belongs would be told a second time.
        wrong = wrong or list(_problems_of(kind, body))
    problems += (f"{shown}: {problem}" for problem in wrong)
    return None if wrong else body


def _without_repetition(pairs: list[tuple[str, Any]]) -> Json:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)} is there twice")
    return values


def render(value: Any, known: Facts, key: str, problems: list[str]) -> Any:
    """Return *value* with each `${name}` replaced; text that is one placeholder and nothing else takes on its type.

    Values are replaced in what was parsed, so no fact can change the structure of a file. Whatever else follows a
    dollar sign and a brace goes to *problems*.
    """
    if isinstance(value, dict):
        return {name: render(item, known, _under(key, name), problems) for name, item in value.items()}
    if isinstance(value, list):
        return [render(item, known, f"{key}[{index}]", problems) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    unknown = [name for name in _PLACEHOLDER.findall(value) if name not in known]
    problems += (
        f"{key} has the placeholder {_shown('${' + name + '}')}: expected one of {', '.join(known)}" for name in unknown
    )
    if "${" in _PLACEHOLDER.sub("", value):
        problems.append(f"{key} is {_shown(value)}: expected a closing brace after each ${{")
    if unknown:
        return value
    whole = _PLACEHOLDER.fullmatch(value)
    return known[whole[1]] if whole else _PLACEHOLDER.sub(lambda match: str(known[match[1]]), value).strip()


def _problems_of(kind: str, body: Any) -> Iterator[str]:
    model = Monitor if kind == "monitor" else Dashboard
    problems = list(model_problems(model, body, ""))
    if not problems:
        # The client has the last word, should it refuse what the walk above lets pass.
        try:
            parsed: Any = model(**body, _spec_property_naming=True)
        except OpenApiException as error:
            problems = [str(error)]
        else:
            if parsed._unparsed:  # noqa: SLF001  # the client tells in no other way that it did not understand
                problems = ["the client does not understand it, without saying where"]
    if not problems and kind == "monitor":
        problems = list(_monitor_problems(body))
    yield from problems


def model_problems(model: Any, value: Any, key: str) -> Iterator[str]:
    """Yield what the client's *model* of a value refuses in *value*, with keys that it would silently pass on.

    Args:
        model: One of its classes, a primitive, `[model]`, `{str: models}`, or a tuple of alternatives.
        value: As JSON gave it.
        key: Where *value* is.
    """
    if isinstance(model, tuple):
        yield from _fewest_problems(model, value, key)
    elif isinstance(model, list | dict):
        yield from _container_problems(model, value, key)
    elif issubclass(model, ModelComposed):
        yield from _fewest_problems(_alternatives(model), value, key)
    elif issubclass(model, ModelSimple):
        yield from _simple_problems(model, value, key)
    elif issubclass(model, ModelNormal):
        yield from _object_problems(model, value, key)
    elif not _is_primitive(model, value):
        yield f"{key} is {_shown(value)}: expected {_PRIMITIVES.get(model, model.__name__)}"


_PRIMITIVES: Mapping[Any, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict: "an object",
    list: "a list",
    type(None): "null",
    datetime: "a time",
}


def _is_primitive(model: type, value: object) -> bool:
    if model is float:
        return type(value) in (int, float)
    if model is int:
        # `type` and not `isinstance`: to Python, true and false are whole numbers too.
        return type(value) is int
    return isinstance(value, str if model is datetime else model)


def _container_problems(model: list[Any] | dict[Any, Any], value: Any, key: str) -> Iterator[str]:
    if not isinstance(value, type(model)):
        yield f"{key} is {_shown(value)}: expected {_PRIMITIVES[type(model)]}"
        return
    inner = model[0] if isinstance(model, list) else model[str]
    items: Any = value.items() if isinstance(value, dict) else enumerate(value)
    for name, item in items:
        yield from model_problems(inner, item, _under(key, name) if isinstance(name, str) else f"{key}[{name}]")


def _simple_problems(model: type[ModelSimple], value: Any, key: str) -> Iterator[str]:
    if not model.allowed_values:
        yield from model_problems(model.openapi_types["value"], value, key)
    elif isinstance(value, dict | list) or value not in model.allowed_values:
        allowed = ", ".join(sorted(map(str, model.allowed_values)))
        yield f"{key} is {_shown(value)}: expected one of {allowed}"


def _object_problems(model: type[ModelNormal], value: Any, key: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{key or 'the file'} is {_shown(value)}: expected an object"
        return
    names = {written: name for name, written in model.attribute_map.items()}
    for required, parameter in list(inspect.signature(model.__init__).parameters.items())[1:]:
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
            written = model.attribute_map[required]
            if written not in value:
                yield f"{_under(key, written)} is missing: expected it in every {model.__name__}"
    for written, item in value.items():
        if names and written not in names:
            # Without the value, which may be a key of Datadog's out of place.
            yield f"{_under(key, written)} is not a key: expected one of {', '.join(sorted(names))}"
        elif names and names[written] in model.read_only_vars:
            yield f"{_under(key, written)} is {_shown(item)}: expected nothing, as Datadog sets it"
        elif names:
            yield from model_problems(model.openapi_types[names[written]], item, _under(key, written))


def _fewest_problems(models: Sequence[Any], value: Any, key: str) -> Iterator[str]:
    """Yield the problems that *value* has with the one of *models* that it was most likely meant to be."""
    if isinstance(value, dict):
        # What is named by its `type` or `data_source` is meant to be that, however wrong the rest is.
        for name in ("type", "data_source"):
            kinds = {model: model.openapi_types[name][0] for model in models if _names_its_kind(model, name)}
            if name in value and kinds:
                models = [model for model in models if model in kinds and _allows(kinds[model], value[name])]
                if not models:
                    every = sorted({str(one) for kind in kinds.values() for one in kind.allowed_values})
                    yield f"{_under(key, name)} is {_shown(value[name])}: expected one of {', '.join(every)}"
                    return
    yield from min((list(model_problems(model, value, key)) for model in models), key=len)


def _names_its_kind(model: Any, name: str) -> bool:
    if not (isinstance(model, type) and issubclass(model, ModelNormal) and name in model.openapi_types):
        return False
    kind = model.openapi_types[name][0]
    return isinstance(kind, type) and issubclass(kind, ModelSimple) and bool(kind.allowed_values)


def _allows(kind: type[ModelSimple], value: Any) -> bool:
    return isinstance(value, str) and value in kind.allowed_values


def _alternatives(model: type[ModelComposed]) -> list[Any]:
    alternatives: list[Any] = []
    for one in model._composed_schemas["oneOf"]:  # noqa: SLF001  # the client lists them nowhere else
        composed = isinstance(one, type) and issubclass(one, ModelComposed)
        alternatives += _alternatives(one) if composed else [one]
    return alternatives


def _monitor_problems(body: Json) -> Iterator[str]:
    for key in ("name", "message"):
        if not body.get(key):
            yield f"{key} is missing: expected text, as nobody knows what the monitor says without it"
    for index, tag in enumerate(body.get("tags", [])):
        if tag.startswith(_RESERVED_TAGS):
            yield f"tags[{index}] is {_shown(tag)}: expected none of {', '.join(_RESERVED_TAGS)}, which are set here"
    thresholds = body.get("options", {}).get("thresholds", {})
    critical, warning = thresholds.get("critical"), thresholds.get("warning")
    asked = _THRESHOLD.search(body["query"])
    if asked is None:
        yield f"query is {_shown(body['query'])}: expected a comparison with a number at its end"
    elif critical is None:
        yield f"options.thresholds.critical is missing: expected {asked[2]}, as in the query"
    elif float(asked[2]) != critical:
        yield f"options.thresholds.critical is {_shown(critical)}: expected {asked[2]}, as in the query"
    elif warning is not None and (warning >= critical if ">" in asked[1] else warning <= critical):
        side = "less" if ">" in asked[1] else "more"
        yield f"options.thresholds.warning is {_shown(warning)}: expected {side} than critical, {_shown(critical)}"


def _marked_monitor(name: str, body: Json, environment: str) -> Json:
    tags = [OWNER, f"monitor_id:{name}", f"env:{environment}", *body.get("tags", [])]
    marked = {**body, "tags": tags}
    return {**marked, "tags": [*tags, f"digest:{_digest(marked)}"]}


def _marked_dashboard(name: str, body: Json, environment: str) -> Json:
    marker = f"{OWNER} dashboard_id:{name} env:{environment} digest:{_digest(body)}"
    return {**body, "description": f"{body.get('description') or ''}\n\n{marker}".strip()}


def _digest(body: Json) -> str:
    """Return what tells that a key was taken out of a file, which a comparison of the keys that are left does not."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:12]


class Found(NamedTuple):
    """Something in Datadog that is ours: its id there, and what it is."""

    id: Any
    body: Json


@dataclass(slots=True)
class Datadog:
    """The monitors and dashboards of one environment in Datadog."""

    monitors: Any
    dashboards: Any
    environment: str
    asked: str = field(default="", init=False)

    def owned(self, kind: str) -> dict[str, list[Found]]:
        """Return what is ours, by the name of its file; more than one for a name if somebody copied it."""
        self.asked = f"to list the {kind}s"
        found: dict[str, list[Found]] = {}
        for name, one in self._owned_monitors() if kind == "monitor" else self._owned_dashboards():
            found.setdefault(name, []).append(one)
        return found

    def _owned_monitors(self) -> Iterator[tuple[str, Found]]:
        mine = (OWNER, f"env:{self.environment}")
        for monitor in self.monitors.list_monitors_with_pagination(monitor_tags=",".join(mine), page_size=100):
            body = _plain(monitor)
            tags = body.get("tags", [])
            names = [tag.removeprefix("monitor_id:") for tag in tags if tag.startswith("monitor_id:")]
            # The filter is Datadog's; what may be changed or removed is decided here.
            if set(mine) <= set(tags) and len(names) == 1:
                yield names[0], Found(body["id"], body)

    def _owned_dashboards(self) -> Iterator[tuple[str, Found]]:
        for summary in self.dashboards.list_dashboards_with_pagination(count=100):
            listed = _plain(summary)
            marker = _MARKER.search((listed.get("description") or "").strip())
            if marker and marker[2] == self.environment:
                self.asked = f"to get dashboard {marker[1]}"
                yield marker[1], Found(listed["id"], _plain(self.dashboards.get_dashboard(listed["id"])))

    def create(self, one: Wanted) -> None:
        """Make what is not there."""
        self.asked = f"to create {one.kind} {one.name}"
        if one.kind == "monitor":
            self.monitors.create_monitor(Monitor(**one.body, _spec_property_naming=True))
        else:
            self.dashboards.create_dashboard(Dashboard(**one.body, _spec_property_naming=True))

    def update(self, found: Found, one: Wanted) -> None:
        """Make *found* what *one* asks for."""
        self.asked = f"to update {one.kind} {one.name}"
        if one.kind == "monitor":
            body = MonitorUpdateRequest(**one.body, _spec_property_naming=True)
            self.monitors.update_monitor(found.id, body)
        else:
            self.dashboards.update_dashboard(found.id, Dashboard(**one.body, _spec_property_naming=True))

    def delete(self, kind: str, name: str, found: Found) -> None:
        """Remove *found*, whose file is gone."""
        self.asked = f"to delete {kind} {name}"
        if kind == "monitor":
            self.monitors.delete_monitor(found.id)
        else:
            self.dashboards.delete_dashboard(found.id)


class Change(NamedTuple):
    """A change to make, and what to say once it was made."""

    make: Callable[[], None]
    done: str


def apply(datadog: Datadog, everything: Sequence[Wanted], say: Callable[[str], None]) -> None:
    """Bring Datadog in line with *everything*, and *say* each change after it was made.

    Raises:
        Refused: if two things in Datadog claim to be the same file.
    """
    owned = {kind: datadog.owned(kind) for kind in ("monitor", "dashboard")}
    problems = list(_copies(owned))
    if problems:
        raise Refused(problems)
    changes = list(_changes(datadog, everything, owned))
    for made, change in enumerate(changes):
        try:
            change.make()
        except (OpenApiException, urllib3.exceptions.HTTPError):
            say(f"{made} of {len(changes)} changes were made; run it again, what is done is not done twice")
            raise
        say(change.done)
    say(f"{len(changes)} changed for {datadog.environment}, {len(everything)} are there")


def _copies(owned: Mapping[str, Mapping[str, Sequence[Found]]]) -> Iterator[str]:
    for kind, mark in (("monitor", f"the tag {OWNER}"), ("dashboard", "the last line of the description")):
        for name, copies in owned[kind].items():
            if len(copies) > 1:
                ids = " and ".join(str(copy.id) for copy in copies)
                yield f"{kind}s {ids} both say that they are {name}: expected one; take {mark} from the copy"


def _changes(
    datadog: Datadog, everything: Sequence[Wanted], owned: Mapping[str, Mapping[str, Sequence[Found]]]
) -> Iterator[Change]:
    for one in everything:
        found = owned[one.kind].get(one.name)
        if not found:
            yield Change(partial(datadog.create, one), f"created {one.kind} {one.name}")
        elif not covers(one.body, found[0].body):
            yield Change(partial(datadog.update, found[0], one), f"updated {one.kind} {one.name}")
    for kind, by_name in owned.items():
        for name in sorted(by_name.keys() - {one.name for one in everything if one.kind == kind}):
            yield Change(partial(datadog.delete, kind, name, by_name[name][0]), f"deleted {kind} {name}")


def covers(sent: Any, found: Any) -> bool:
    """Tell whether *found* holds all of *sent*; Datadog adds keys of its own, and the order of tags is its own too."""
    if isinstance(sent, dict):
        if not isinstance(found, dict):
            return False
        return all(_covers_key(key, value, found.get(key)) for key, value in sent.items())
    if isinstance(sent, list):
        return isinstance(found, list) and len(sent) == len(found) and all(map(covers, sent, found))
    if isinstance(sent, str) and isinstance(found, str):
        return sent.strip() == found.strip()
    return bool(sent == found)


def _covers_key(key: str, sent: Any, found: Any) -> bool:
    if key == "tags" and isinstance(sent, list) and isinstance(found, list):
        return sorted(sent) == sorted(found)
    if key == "type" and {sent, found} == {"metric alert", "query alert"}:
        return True  # two names of one thing, and Datadog answers with either
    return covers(sent, found)


def _plain(model: Any) -> Json:
    plain: Json = _untyped(model_to_dict)(model, serialize=True)
    return plain


def _untyped(thing: Any) -> Any:
    """Return *thing*, to which its author gave no types."""
    return thing


def _client(environ: Mapping[str, str], host: str | None) -> ApiClient:
    problems = [
        # Without the value: it is a secret even where it is wrong.
        f"{name} is {'missing' if not environ.get(name) else 'no key'}: expected letters, digits, - and _, for --apply"
        for name in ("DD_API_KEY", "DD_APP_KEY")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", environ.get(name, ""))
    ]
    keys = {"apiKeyAuth": environ.get("DD_API_KEY", ""), "appKeyAuth": environ.get("DD_APP_KEY", "")}
    configuration = _untyped(Configuration)(
        host=host,
        api_key=keys,
        # Nothing is repeated: a monitor that was created although the answer was lost would be there twice.
        retry_policy=urllib3.Retry(total=0),
        request_timeout=(_SECONDS_TO_CONNECT, _SECONDS_TO_ANSWER),
    )
    site = environ.get("DD_SITE") or "datadoghq.com"
    sites = configuration.get_host_settings()[0]["variables"]["site"]["enum_values"]
    if site not in sites:
        problems.append(f"DD_SITE is {_shown(site)}: expected one of {', '.join(sorted(set(sites)))}")
    if problems:
        raise Refused(problems)
    configuration.server_variables["site"] = site
    return ApiClient(configuration)


def _applied(environ: Mapping[str, str], host: str | None, environment: str, everything: Sequence[Wanted]) -> None:
    client = _client(environ, host)
    datadog = Datadog(_untyped(MonitorsApi)(client), _untyped(DashboardsApi)(client), environment)
    try:
        apply(datadog, everything, _say)
    except ApiException as error:
        raise Failed(f"Datadog answered {error.status} when asked {datadog.asked}: {_reason(error)}") from None
    except OpenApiException as error:
        raise Failed(f"Datadog's answer when asked {datadog.asked} is not understood: {error}") from None
    except urllib3.exceptions.HTTPError as error:
        raise Failed(f"{client.configuration.host} did not answer when asked {datadog.asked}: {error}") from None
    finally:
        client.rest_client.pool_manager.clear()
        client.close()


def _reason(error: ApiException) -> str:
    errors = error.body.get("errors") if isinstance(error.body, dict) else None
    told = "; ".join(map(str, errors)) if isinstance(errors, list) else str(error.reason)
    hint = _HINTS.get(error.status or 0, "")
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if "x-ratelimit-reset" in headers:
        hint = f"{hint}, more are accepted in {headers['x-ratelimit-reset']} s".lstrip(", ")
    return f"{told} ({hint})" if hint else told


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sync_datadog.py", description="Monitors and dashboards in Datadog.")
    parser.add_argument("--environment", required=True, metavar="NAME", help=f"one of {', '.join(ENVIRONMENTS)}")
    parser.add_argument("--notify", action="append", default=[], metavar="@WHOM", help="whom each monitor notifies")
    parser.add_argument("--json", action="store_true", help="without --apply: print what would be sent, in full")
    parser.add_argument("--apply", action="store_true", help="create, update and delete, with the keys of DD_*")
    return parser.parse_args(argv)


def _run(arguments: argparse.Namespace, folder: Path, environ: Mapping[str, str], host: str | None) -> None:
    environment = arguments.environment
    problems = []
    if environment not in ENVIRONMENTS:
        problems.append(f"--environment is {_shown(environment)}: expected one of {', '.join(ENVIRONMENTS)}")
    problems += [
        f"--notify is {_shown(whom)}: expected an address of Datadog's, as @slack-registration or @pagerduty"
        for whom in arguments.notify
        if not re.fullmatch(r"@[^\s${}]+", whom)
    ]
    if problems:
        raise Refused(problems)
    known = facts(load(folder / "environments" / f"{environment}.toml"))
    everything = wanted(folder, {**known, "notify": " ".join(arguments.notify)})
    if arguments.apply:
        _applied(environ, host, environment, everything)
    elif arguments.json:
        _say(json.dumps([{"kind": one.kind, "file": one.name, "body": one.body} for one in everything], indent=2))
    else:
        for one in everything:
            _say(f"{one.kind:9}  {one.name:22}  {one.body.get('query') or one.body['title']}")
        _say(f"{len(everything)} checked for {environment}, none sent; --json shows them in full, --apply sends them")
    if not arguments.notify and not arguments.json:
        _say("nobody is notified: name somebody with --notify")


def main(
    argv: Sequence[str] | None = None,
    *,
    folder: Path = _HERE,
    environ: Mapping[str, str] = os.environ,
    host: str | None = None,
) -> int:
    """Run the command.

    Args:
        argv: Its arguments.
        folder: Where `environments`, `monitors` and `dashboards` are.
        environ: Where the keys are.
        host: Where Datadog is, instead of at `DD_SITE`.

    Returns:
        0, 1 if Datadog did not do what it was asked, or 2 if something was wrong before.
    """
    try:
        _run(_arguments(argv), folder, environ, host)
    except (Refused, InfraConfigError) as error:
        code, message = 2, str(error)
    except Failed as error:
        code, message = 1, str(error)
    else:
        return 0
    for name in ("DD_API_KEY", "DD_APP_KEY"):
        # Should an answer repeat a key.
        message = message.replace(environ.get(name) or "\0", f"<{name}>")
    sys.stderr.write(f"sync_datadog.py: {message}\n")
    return code


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _under(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _shown(value: object) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
