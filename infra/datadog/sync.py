"""The sync: create, update and delete until Datadog has what the files describe."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from datadog.api_errors import API_ERRORS
from datadog.client import DatadogClient, Existing
from datadog.comparison import covers, same_type
from datadog.files import Resource
from datadog.kinds import KINDS, Kind
from datadog.marks import OWNER
from datadog.problems import InvalidInput

Owned = Mapping[Kind, Mapping[str, Sequence[Existing]]]
"""Our monitors and dashboards in Datadog, by kind and file name."""

_MARK_PLACES: Mapping[Kind, str] = {
    "monitor": f"the tag {OWNER}",
    "dashboard": "the last line of the description",
}


class Change(NamedTuple):
    """A change to make, and the message to print after it."""

    make: Callable[[], None]
    message: str


def sync(client: DatadogClient, resources: Sequence[Resource], print_line: Callable[[str], None]) -> None:
    """Make Datadog match *resources*, and print each change after it was made.

    Monitors and dashboards without our ownership mark are neither changed nor deleted.

    Raises:
        InvalidInput: if two monitors or dashboards in Datadog have the mark of the same file. Nothing is changed then.
    """
    owned = {kind: client.owned(kind) for kind in KINDS}
    problems = list(_clone_problems(owned))
    if problems:
        raise InvalidInput(problems)
    changes = list(_changes(client, resources, owned))
    for done, change in enumerate(changes):
        try:
            change.make()
        except API_ERRORS:
            print_line(f"{done} of {len(changes)} changes were made; run the command again to make the others")
            raise
        print_line(change.message)
    total = f"all {len(resources)} monitors and dashboards"
    print_line(f"{len(changes)} changes made for {client.environment}; it has {total}")


def _clone_problems(owned: Owned) -> Iterator[str]:
    for kind, place in _MARK_PLACES.items():
        for name, clones in owned[kind].items():
            if len(clones) > 1:
                ids = " and ".join(str(clone.id) for clone in clones)
                yield f"{kind}s {ids} both have the mark of {name}: expected one; remove {place} from the clone"


def _changes(client: DatadogClient, resources: Sequence[Resource], owned: Owned) -> Iterator[Change]:
    for resource in resources:
        existing = owned[resource.kind].get(resource.name)
        if not existing:
            yield Change(partial(client.create, resource), f"created {resource.kind} {resource.name}")
        elif not same_type(resource.body, existing[0].body):
            yield Change(partial(client.replace, existing[0], resource), f"replaced {resource.kind} {resource.name}")
        elif not covers(resource.body, existing[0].body):
            yield Change(partial(client.update, existing[0], resource), f"updated {resource.kind} {resource.name}")
    for kind, by_name in owned.items():
        wanted = {resource.name for resource in resources if resource.kind == kind}
        for name in sorted(by_name.keys() - wanted):
            yield Change(partial(client.delete, kind, name, by_name[name][0]), f"deleted {kind} {name}")
