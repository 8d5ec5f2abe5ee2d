"""The command `python -m datadog` in a copy of the shipped files, for tests."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from datadog.command import main
from fake_datadog import API_KEY, APP_KEY, KEYS, FakeDatadog

INFRA = Path(__file__).parents[1]
DATADOG = INFRA / "datadog"

Edit = Callable[[dict[str, Any]], object]


class Command:
    """Runs the command in a copy of the shipped files.

    Args:
        infra: The copy of `infra/`.
        capsys: Captures the output.

    Attributes:
        infra: The same folder.
        files: Its folder with `monitors/` and `dashboards/`.
    """

    def __init__(self, infra: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.infra, self.files, self._capsys = infra, infra / "datadog", capsys

    def run(
        self, *arguments: str, datadog: FakeDatadog | None = None, environ: Mapping[str, str] = KEYS
    ) -> tuple[int, str, str]:
        """Run with *arguments*, and with `--apply` if *datadog* is given. Return the exit code, stdout and stderr."""
        words = ["--environment", "dev", *arguments] if "--environment" not in arguments else list(arguments)
        apply = ["--apply"] if datadog else []
        host = datadog.host if datadog else None
        code = main([*words, *apply], infra=self.infra, environ=environ, host=host)
        written = self._capsys.readouterr()
        for key in (API_KEY, APP_KEY):
            assert key not in written.out + written.err
        return code, written.out, written.err

    def apply(self, datadog: FakeDatadog, *arguments: str) -> list[str]:
        """Apply without an error, and return the lines about changes."""
        code, out, err = self.run("--notify", "@ops", *arguments, datadog=datadog)
        assert (code, err) == (0, "")
        return out.splitlines()[:-1]

    def bodies(self, environment: str = "dev") -> dict[str, dict[str, Any]]:
        """Return the payloads by file, without sending them."""
        code, out, err = self.run("--environment", environment, "--json", "--notify", "@ops")
        assert (code, err) == (0, "")
        return {f"{one['kind']}s/{one['file']}": one["body"] for one in json.loads(out)}

    def edit(self, file: str, change: Edit) -> None:
        """Apply *change* to the content of *file*."""
        path = self.files / f"{file}.json"
        body = json.loads(path.read_text(encoding="utf-8"))
        change(body)
        path.write_text(json.dumps(body), encoding="utf-8")

    def edit_environment(self, old: str, new: str) -> None:
        """Replace *old* by *new* in the file of the environment dev."""
        path = self.infra / "environments" / "dev.toml"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    def problems(self, *arguments: str, apply: bool = False, environ: Mapping[str, str] = KEYS) -> list[str]:
        """Return the problems that the command lists when it rejects its input."""
        code, out, err = self.run(*arguments, *(["--apply"] if apply else []), environ=environ)
        assert (code, out) == (2, "")
        first, *problems = err.splitlines()
        assert first == "datadog: nothing was changed:"
        return [problem.removeprefix("  - ") for problem in problems]

    def problem_after(self, file: str, change: Edit) -> str:
        """Apply *change* to *file*, and return the only problem that the command then lists, which names the file."""
        self.edit(file, change)
        (problem,) = self.problems()
        assert problem.startswith(f"{file}.json: ")
        return problem


def delete(*keys: str) -> Edit:
    """Return an edit that deletes the key at the path *keys*."""

    def change(body: dict[str, Any]) -> None:
        for key in keys[:-1]:
            body = body[key]
        del body[keys[-1]]

    return change


def put(value: Any, *keys: str | int) -> Edit:
    """Return an edit that writes *value* at the path *keys*."""

    def change(body: Any) -> None:
        for key in keys[:-1]:
            body = body[key]
        body[keys[-1]] = value

    return change
