"""The sync: create, update and delete until Datadog has what the files describe."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from datadog.api_errors import API_ERRORS
from datadog.client import DatadogClient, Existing
from datadog.comparison import covers
from datadog.files import KINDS, Resource
from datadog.marks import OWNER
from datadog.problems import InvalidInput

Owned = Mapping[str, Mapping[str, Sequence[Existing]]]
"""Our monitors and dashboards in Datadog, by kind and file name."""


class Change(NamedTuple):
    """A change to make, and the line to print after it."""

    make: Callable[[], None]
    done: str


def sync(client: DatadogClient, resources: Sequence[Resource], say: Callable[[str], None]) -> None:
    """Make Datadog match *resources*, and *say* each change after it was made.

    Monitors and dashboards without our ownership mark are neither changed nor deleted.

    Raises:
        InvalidInput: if two monitors or dashboards in Datadog have the mark of the same file. Nothing is changed then.
    """
    owned = {kind: client.owned(kind) for kind in KINDS}
    problems = list(_clone_problems(owned))
    if problems:
        raise InvalidInput(problems)
    changes = list(_changes(client, resources, owned))
    for made, change in enumerate(changes):
        try:
            change.make()
        except API_ERRORS:
            say(f"{made} of {len(changes)} changes were made; run the command again to make the others")
            raise
        say(change.done)
    say(f"{len(changes)} changes made for {client.environment}; it has all {len(resources)} monitors and dashboards")


def _clone_problems(owned: Owned) -> Iterator[str]:
    for kind, mark in (("monitor", f"the tag {OWNER}"), ("dashboard", "the last line of the description")):
        for name, clones in owned[kind].items():
            if len(clones) > 1:
                ids = " and ".join(str(clone.id) for clone in clones)
                yield f"{kind}s {ids} both have the mark of {name}: expected one; remove {mark} from the clone"


def _changes(client: DatadogClient, resources: Sequence[Resource], owned: Owned) -> Iterator[Change]:
    for resource in resources:
        existing = owned[resource.kind].get(resource.name)
        if not existing:
            yield Change(partial(client.create, resource), f"created {resource.kind} {resource.name}")
        elif not covers(resource.body, existing[0].body):
            yield Change(partial(client.update, existing[0], resource), f"updated {resource.kind} {resource.name}")
    for kind, by_name in owned.items():
        wanted = {resource.name for resource in resources if resource.kind == kind}
        for name in sorted(by_name.keys() - wanted):
            yield Change(partial(client.delete, kind, name, by_name[name][0]), f"deleted {kind} {name}")
