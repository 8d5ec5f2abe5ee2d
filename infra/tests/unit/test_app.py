"""`app.main`: the warnings of the synth."""

from types import SimpleNamespace
from typing import Any

import app
import pytest


@pytest.mark.parametrize(
    ("environment", "further", "warnings"),
    [("prod", [], 3), ("dev", [], 0), ("prod", ["old"], 5), ("dev", ["old"], 2)],
)
def test_synth_warns(
    environment: str,
    further: list[str],
    warnings: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each missing setting of production, end of support and obstacle to a pause is one warning; the synth goes on."""
    synthesised = []

    def build(config: Any, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(synth=lambda: synthesised.append(config.name))

    monkeypatch.setattr(app, "build_app", build)
    monkeypatch.setattr(app, "support_warnings", lambda *_, **__: further)
    monkeypatch.setattr(app, "pause_obstacles", lambda *_: further)
    context = {"environment": environment}
    monkeypatch.setattr(app, "App", lambda **_: SimpleNamespace(node=SimpleNamespace(try_get_context=context.get)))

    assert app.main() == 0

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == warnings
    assert all(line.startswith("warning: ") and f"{environment}.toml: " in line for line in lines)
    assert synthesised == [environment]
