"""Requests for the monitors and dashboards of one environment."""

from collections.abc import Iterator
from typing import Any, NamedTuple, assert_never

from datadog_api_client import ApiClient
from datadog_api_client.model_utils import model_to_dict
from datadog_api_client.v1.api.dashboards_api import DashboardsApi
from datadog_api_client.v1.api.monitors_api import MonitorsApi
from datadog_api_client.v1.model.dashboard import Dashboard
from datadog_api_client.v1.model.monitor import Monitor
from datadog_api_client.v1.model.monitor_update_request import MonitorUpdateRequest

from datadog.files import Resource
from datadog.kinds import Kind
from datadog.marks import dashboard_file, monitor_file, owner_tags

_PAGE_SIZE = 100


class Existing(NamedTuple):
    """A monitor or dashboard that is in Datadog and belongs to one of our files: its id and its state."""

    id: Any
    body: dict[str, Any]


class DatadogClient:
    """Lists, creates, updates and deletes the monitors and dashboards of one environment.

    Args:
        connection: An open API client.
        environment: `dev`, `staging` or `prod`.

    Attributes:
        environment: The same environment.
        request: The last request in words, for an error message. Empty before the first one.
    """

    def __init__(self, connection: ApiClient, environment: str) -> None:
        self._monitors = MonitorsApi(connection)
        self._dashboards = DashboardsApi(connection)
        self.environment = environment
        self.request = ""

    def owned(self, kind: Kind) -> dict[str, list[Existing]]:
        """Return our monitors or dashboards by file name. If someone cloned one, its file has more than one entry."""
        self.request = f"to list the {kind}s"
        found: dict[str, list[Existing]] = {}
        for name, existing in self._owned(kind):
            found.setdefault(name, []).append(existing)
        return found

    def _owned(self, kind: Kind) -> Iterator[tuple[str, Existing]]:
        match kind:
            case "monitor":
                return self._owned_monitors()
            case "dashboard":
                return self._owned_dashboards()
            case _:
                assert_never(kind)

    def _owned_monitors(self) -> Iterator[tuple[str, Existing]]:
        tags = ",".join(owner_tags(self.environment))
        for monitor in self._monitors.list_monitors_with_pagination(monitor_tags=tags, page_size=_PAGE_SIZE):
            body = model_to_dict(monitor)
            # Datadog has filtered by tags. Ownership is decided here all the same, because we change and delete.
            name = monitor_file(body, self.environment)
            if name is not None:
                yield name, Existing(body["id"], body)

    def _owned_dashboards(self) -> Iterator[tuple[str, Existing]]:
        for summary in self._dashboards.list_dashboards_with_pagination(count=_PAGE_SIZE):
            listed = model_to_dict(summary)
            name = dashboard_file(listed, self.environment)
            if name is not None:
                self.request = f"to get dashboard {name}"
                yield name, Existing(listed["id"], model_to_dict(self._dashboards.get_dashboard(listed["id"])))

    def create(self, resource: Resource) -> None:
        """Create *resource*."""
        self.request = f"to create {resource.kind} {resource.name}"
        match resource.kind:
            case "monitor":
                self._monitors.create_monitor(Monitor(**resource.body, _spec_property_naming=True))
            case "dashboard":
                self._dashboards.create_dashboard(Dashboard(**resource.body, _spec_property_naming=True))
            case _:
                assert_never(resource.kind)

    def update(self, existing: Existing, resource: Resource) -> None:
        """Change *existing* into *resource*. It keeps its id and its history."""
        self.request = f"to update {resource.kind} {resource.name}"
        match resource.kind:
            case "monitor":
                body = MonitorUpdateRequest(**resource.body, _spec_property_naming=True)
                self._monitors.update_monitor(existing.id, body)
            case "dashboard":
                self._dashboards.update_dashboard(existing.id, Dashboard(**resource.body, _spec_property_naming=True))
            case _:
                assert_never(resource.kind)

    def replace(self, existing: Existing, resource: Resource) -> None:
        """Delete *existing*, which loses its history, and create *resource*."""
        self.delete(resource.kind, resource.name, existing)
        self.create(resource)

    def delete(self, kind: Kind, name: str, existing: Existing) -> None:
        """Delete *existing*, whose file *name* was removed."""
        self.request = f"to delete {kind} {name}"
        match kind:
            case "monitor":
                self._monitors.delete_monitor(existing.id)
            case "dashboard":
                self._dashboards.delete_dashboard(existing.id)
            case _:
                assert_never(kind)
