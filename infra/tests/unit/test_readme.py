"""The targets and links of infra/README.md; its table of keys is tested in config/test_readme_table.py."""

import re
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
ROOT = Path(__file__).parents[3]


def test_targets_and_links_exist() -> None:
    """Every `make …` is a target, and every link leads to a file."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", README, re.MULTILINE))
    assert {"infra-synth", "deploy-database", "bootstrap", "migrate"} <= named <= targets
    for link in re.findall(r"\]\(([^)#]+)", README):
        assert (ROOT / "infra" / link).exists(), link
