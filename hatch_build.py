"""A hook of hatchling: the links of README.md also work in the package description, where no file is beside it."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s]+)\)")


class ReadmeHook(MetadataHookInterface):
    """Sets `readme` to the text of README.md with the addresses of its links in `project.urls.Repository`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the description to *metadata*."""
        readme = Path(self.root, "README.md").read_text(encoding="utf-8")
        repository = metadata["urls"]["Repository"]
        text = _RELATIVE_LINK.sub(rf"]({repository}/blob/main/\1)", readme)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
