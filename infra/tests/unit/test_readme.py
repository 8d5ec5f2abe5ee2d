"""The targets, links and examples of infra/README.md; its table of keys is tested in config/test_readme_table.py."""

import re
import tomllib
from pathlib import Path

from templates import config_of

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
ROOT = Path(__file__).parents[3]


def test_targets_and_links_exist() -> None:
    """Every `make …` is a target of the Makefile, and every link into the checkout leads to a file."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", README, re.MULTILINE))
    assert {"infra-synth", "deploy-database", "bootstrap", "migrate"} <= named <= targets
    links = {link for link in re.findall(r"\]\(([^)#]+)", README) if not link.startswith("https://")}
    assert "environments/dev.toml" in links
    for link in links:
        assert (ROOT / "infra" / link).exists(), link


def test_examples_of_environment_files_are_accepted() -> None:
    """The keys of each example are accepted in a file of production, with a cluster of the newest version."""
    examples = [tomllib.loads(text) for text in re.findall(r"^```toml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)]

    found = [config_of("prod", example) for example in examples]
    assert ["direct", "postgres", "postgres"] == [each.application.ssl_negotiation for each in found]
    assert [False, True, False] == [each.application.snap_start for each in found]
    assert [False, False, True] == [each.backup.restore_test for each in found]
