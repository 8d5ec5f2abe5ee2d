"""`completion`: what a shell proposes, and the extra that it needs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import TIMEOUT_SECONDS, environment, one_line, run

PROPOSE = """
eval "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
complete -p registration-persistence > /dev/null || exit 1
function=$(complete -p registration-persistence | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
"$function" registration-persistence "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
WITHOUT_SHTAB = """
import sys
sys.modules["shtab"] = None
from registration_persistence.cli import main
sys.exit(main(["completion", "bash"]))
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["exp"], {"expire", "export"}),
        (["outbox", ""], {"run", "dead", "revive"}),
        (["outbox", "run", "--del"], {"--deliver"}),
        (["completion", "z"], {"zsh"}),
        (["import", "peop"], {"people.csv"}),
    ],
)
def test_bash_completes_names(tmp_path: Path, words: list[str], expected: set[str]) -> None:
    """Bash proposes commands, those of a group, options, choices, and files for an argument that is one."""
    (tmp_path / "people.csv").touch()
    script = run("completion", "bash").stdout

    done = subprocess.run(
        ["bash", "--norc", "-c", PROPOSE, "bash", script, "registration-persistence", *words],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert expected <= set(done.stdout.split())


def test_every_shell_has_a_script() -> None:
    """The script of each shell has the commands and the options; another shell ends with 2 and the known ones."""
    for shell in ("bash", "zsh", "fish", "tcsh"):
        script = run("completion", shell).stdout
        assert "partitions" in script, shell
        assert "drop-before" in script or shell == "tcsh"
    assert "choose from" in one_line(run("completion", "ksh", code=2).stderr)


def test_a_missing_extra_is_one_line() -> None:
    """Without shtab, the command says what to install."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SHTAB],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )

    assert (2, "") == (done.returncode, done.stdout)
    assert one_line(done.stderr).endswith("this needs shtab: pip install 'registration-persistence[cli]'")
