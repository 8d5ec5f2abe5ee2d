"""A hook of hatchling: the links of README.md also work in the package description, where no file is beside it."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE_LINK = re.compile(r"(?P<picture>!?)(?P<text>\[[^]]*\])\((?![a-z]+:|#)(?P<path>[^)\s]+)\)")


class ReadmeHook(MetadataHookInterface):
    """Sets `readme` to README.md, whose links and pictures lead to the tag of the version in the repository."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the description to *metadata*."""
        readme = Path(self.root, "README.md").read_text(encoding="utf-8")
        repository, tag = metadata["urls"]["Repository"], f"v{metadata['version']}"

        def absolute(link: re.Match[str]) -> str:
            kind = "raw" if link["picture"] else "blob"  # a picture needs the file itself, not the page about it
            return f"{link['picture']}{link['text']}({repository}/{kind}/{tag}/{link['path']})"

        metadata["readme"] = {"content-type": "text/markdown", "text": _RELATIVE_LINK.sub(absolute, readme)}
