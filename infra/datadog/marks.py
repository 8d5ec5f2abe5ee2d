"""Ownership marks: how a monitor or dashboard in Datadog says which file of which environment it belongs to.

A monitor has the mark in its tags. A dashboard has it in the last line of its description, because Datadog accepts
only team tags on dashboards.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

OWNER = "managed_by:registration_persistence"
RESERVED_TAG_PREFIXES = ("managed_by:", "monitor_id:", "env:", "digest:")

_MONITOR_ID = "monitor_id:"
_DASHBOARD_MARK = re.compile(re.escape(OWNER) + r" dashboard_id:(\S+) env:(\S+) digest:\S+$")


def marked_monitor(name: str, body: Mapping[str, Any], environment: str) -> dict[str, Any]:
    """Return the monitor *body* with the mark of the file *name* in *environment*."""
    tags = [*owner_tags(environment), f"{_MONITOR_ID}{name}", *body.get("tags", [])]
    marked = {**body, "tags": tags}
    return {**marked, "tags": [*tags, f"digest:{_digest(marked)}"]}


def marked_dashboard(name: str, body: Mapping[str, Any], environment: str) -> dict[str, Any]:
    """Return the dashboard *body* with the mark of the file *name* in *environment*."""
    mark = f"{OWNER} dashboard_id:{name} env:{environment} digest:{_digest(body)}"
    return {**body, "description": f"{body.get('description') or ''}\n\n{mark}".strip()}


def owner_tags(environment: str) -> tuple[str, str]:
    """Return the two tags that all our monitors of *environment* have."""
    return OWNER, f"env:{environment}"


def monitor_file(body: Mapping[str, Any], environment: str) -> str | None:
    """Return the name of the file that the monitor *body* belongs to, `None` if it is not ours in *environment*."""
    tags = body.get("tags", [])
    names = [tag.removeprefix(_MONITOR_ID) for tag in tags if tag.startswith(_MONITOR_ID)]
    return names[0] if set(owner_tags(environment)) <= set(tags) and len(names) == 1 else None


def dashboard_file(body: Mapping[str, Any], environment: str) -> str | None:
    """Return the name of the file that the dashboard *body* belongs to, `None` if it is not ours in *environment*."""
    mark = _DASHBOARD_MARK.search((body.get("description") or "").strip())
    return mark[1] if mark and mark[2] == environment else None


def _digest(body: Mapping[str, Any]) -> str:
    """Return a hash of *body*: it changes when a key is removed from a file, which a comparison of keys cannot see."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:12]
