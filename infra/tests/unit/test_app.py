"""`app.main`: the warnings of production."""

from types import SimpleNamespace
from typing import Any

import app
import pytest


@pytest.mark.parametrize(("environment", "warnings"), [("prod", 3), ("dev", 0)])
def test_synth_of_production_warns(
    environment: str, warnings: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each setting that production lacks is one warning on standard error; the synth goes on."""
    synthesised = []

    def build(config: Any, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(synth=lambda: synthesised.append(config.name))

    monkeypatch.setattr(app, "build_app", build)
    context = {"environment": environment}
    monkeypatch.setattr(app, "App", lambda **_: SimpleNamespace(node=SimpleNamespace(try_get_context=context.get)))

    assert app.main() == 0

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == warnings
    assert all(line.startswith("warning: ") and "prod.toml: " in line for line in lines)
    assert synthesised == [environment]
