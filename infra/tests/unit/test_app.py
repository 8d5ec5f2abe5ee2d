"""`app.main`: the warnings of the synth."""

from types import SimpleNamespace
from typing import Any

import app
import pytest


@pytest.mark.parametrize(
    ("environment", "support", "warnings"),
    [("prod", [], 3), ("dev", [], 0), ("prod", ["old"], 4), ("dev", ["old"], 1)],
)
def test_synth_warns(
    environment: str,
    support: list[str],
    warnings: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each missing setting of production, and each end of support, is one warning; the synth goes on."""
    synthesised = []

    def build(config: Any, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(synth=lambda: synthesised.append(config.name))

    monkeypatch.setattr(app, "build_app", build)
    monkeypatch.setattr(app, "support_warnings", lambda *_, **__: support)
    context = {"environment": environment}
    monkeypatch.setattr(app, "App", lambda **_: SimpleNamespace(node=SimpleNamespace(try_get_context=context.get)))

    assert app.main() == 0

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == warnings
    assert all(line.startswith("warning: ") and f"{environment}.toml: " in line for line in lines)
    assert synthesised == [environment]
