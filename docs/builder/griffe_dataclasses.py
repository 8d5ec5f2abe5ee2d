"""Tells griffe that the decorator of `light_dataclass` makes dataclasses, so that their fields are parameters."""

from typing import Any

import griffe

_DECORATOR = "registration_persistence.light_dataclass.dataclass"


class LightDataclasses(griffe.Extension):
    """Resolves `light_dataclass.dataclass` to the decorator of the standard library."""

    def on_alias_instance(self, *, alias: griffe.Alias, **_: Any) -> None:
        """Change the target of the import."""
        if alias.target_path == _DECORATOR and alias.parent.path != _DECORATOR.rpartition(".")[0]:
            alias.target_path = "dataclasses.dataclass"
