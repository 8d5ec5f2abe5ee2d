"""The tools of a release: the version and its changelog, the SBOM, and the release on GitHub."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import locked_lists
import pytest
import sbom
from notes import NotReady, project_version, release_notes

ROOT = Path(__file__).parents[1]
READY = """# Changelog

## Unreleased

## 1.2.3 - 2026-12-01

### Added

- A name.

## 1.2.2 - 2026-11-01

- Old.
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that can be released as 1.2.3."""
    shutil.copytree(ROOT / "release", tmp_path / "release")
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text(READY)
    return tmp_path


def test_the_notes_are_the_entries_of_the_version(checkout: Path) -> None:
    """The section of the version is printed without its heading, and without those of other versions."""
    assert release_notes(checkout, "v1.2.3") == "### Added\n\n- A name.\n"
    (checkout / "CHANGELOG.md").write_text(READY.replace("## Unreleased\n\n", ""))
    assert release_notes(checkout, "v1.2.3") == "### Added\n\n- A name.\n"


@pytest.mark.parametrize(
    ("tag", "old", "new", "message"),
    [
        ("v1.2.4", "", "", "the tag is 'v1.2.4': expected v1.2.3"),
        ("1.2.3", "", "", "the tag is '1.2.3': expected v1.2.3"),
        ("v1.2.3", "## Unreleased\n", "## Unreleased\n\n- Forgotten.\n", "CHANGELOG.md has entries under Unreleased"),
        ("v1.2.3", "1.2.3 - ", "1.2.4 - ", "does not start with 1.2.3"),
        ("v1.2.3", "1.2.3 - 2026-12-01", "1.2.3", "expected the heading '## 1.2.3 - YYYY-MM-DD'"),
        ("v1.2.3", "2026-12-01", "2026-13-01", "has no date"),
        ("v1.2.3", "2026-12-01", "20261201", "has no date"),
        ("v1.2.3", "2026-12-01", "soon", "has no date"),
        ("v1.2.3", "- A name.\n", "", "has no entries"),
        ("v1.2.3", READY, "", "does not start with 1.2.3"),
    ],
)
def test_a_tag_that_does_not_fit_is_refused(checkout: Path, tag: str, old: str, new: str, message: str) -> None:
    """The tag, the version of pyproject.toml and a dated section of the changelog must agree."""
    (checkout / "CHANGELOG.md").write_text(READY.replace(old, new) if old else READY)

    with pytest.raises(NotReady, match=re.escape(message)):
        release_notes(checkout, tag)


@pytest.mark.parametrize("version", ["1.2", "01.2.3.dev1", "1.2.3-rc1", "1.2.3+local"])
def test_a_version_that_is_not_normal_is_refused(checkout: Path, version: str) -> None:
    """PyPI would store the version under another name, or refuse it."""
    (checkout / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')

    with pytest.raises(NotReady, match="expected a version like"):
        release_notes(checkout, f"v{version}")


def test_a_wrong_tag_ends_the_workflow_with_one_line(checkout: Path) -> None:
    """The command of the workflow exits with 1 and prints one line; with the right tag it prints the notes."""
    command = [sys.executable, "-I", "release/notes.py"]

    wrong = subprocess.run([*command, "v9.9.9"], cwd=checkout, capture_output=True, text=True, check=False)
    right = subprocess.run([*command, "v1.2.3"], cwd=checkout, capture_output=True, text=True, check=False)

    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (1, "", 1)
    assert (right.returncode, right.stdout, right.stderr) == (0, "### Added\n\n- A name.\n", "")


def test_the_version_is_stated_once() -> None:
    """Only pyproject.toml has the version: no module repeats it, and the build does not read it from elsewhere."""
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "release").glob("*.py"), ROOT / "hatch_build.py"]

    assert [] == [file for file in files if re.search(r"__version__|^VERSION = ", file.read_text(encoding="utf-8"))]
    assert "[tool.hatch.version]" not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.fullmatch(r"\d+\.\d+\.\d+", project_version(ROOT))


GH = '#!/bin/sh\nprintf "%s\\n" "$@" >gh.log\n'


def test_a_release_on_github_has_the_notes_and_the_files(checkout: Path) -> None:
    """`gh` gets the existing tag, the entries of the changelog, the distributions and the SBOM; or is not called."""
    for name in ("dist/a.whl", "dist/a.tar.gz", "build/registration_persistence.cdx.json", "bin/gh"):
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_text(GH)
    (checkout / "bin" / "gh").chmod(0o755)
    environ = {"PATH": f"{checkout / 'bin'}:{os.environ['PATH']}"}
    script = checkout / "release" / "create-release"

    assert subprocess.run([script, "v9.9.9"], env=environ, capture_output=True, check=False).returncode == 1
    assert not (checkout / "gh.log").exists()
    subprocess.run([script, "v1.2.3"], env=environ, check=True)

    assert (checkout / "gh.log").read_text().splitlines() == [
        *("release", "create", "v1.2.3", "--verify-tag", "--title", "v1.2.3", "--notes", "### Added", "", "- A name."),
        *("dist/a.whl", "dist/a.tar.gz", "build/registration_persistence.cdx.json"),
    ]


def test_every_locked_list_is_read() -> None:
    """Each package of each list is found with its hashes, and each list is one of the lists."""
    assert {"runtime.txt", "dev.txt", "build.txt"} <= {path.name for path in locked_lists.lists()}
    for path in locked_lists.lists():
        text = path.read_text(encoding="utf-8")
        found = locked_lists.read(path)
        assert len(found) == len(re.findall(r"^\S+==", text, re.MULTILINE)) > 5
        assert sum(len(each.hashes) for each in found) == text.count("--hash=sha256:")
        assert all(each.hashes and each.dependents for each in found)


def test_an_unknown_line_of_a_list_is_refused(tmp_path: Path) -> None:
    """A package without a version, or an option of pip, is not skipped."""
    (tmp_path / "list.txt").write_text("--index-url https://example.com\n")

    with pytest.raises(ValueError, match="is neither a package"):
        locked_lists.read(tmp_path / "list.txt")


def test_the_sbom_lists_the_locked_packages_and_their_graph() -> None:
    """Each runtime package has its files, an SPDX licence and its marker, and is reached from the package itself."""
    packages = {f"pkg:pypi/{each.name}@{each.version}": each for each in locked_lists.read(sbom.RUNTIME)}

    found = sbom.bill_of_materials(1_796_000_000)

    components = {each["bom-ref"]: each for each in found["components"]}
    assert components.keys() == packages.keys()
    for reference, component in components.items():
        assert component["purl"] == reference
        hashes = component["externalReferences"][0]["hashes"]
        assert [each["content"] for each in hashes] == packages[reference].hashes
        (licence,) = component["licenses"]
        assert "BSD" not in re.split(r" OR | AND ", licence["expression"])  # no SPDX identifier
    (windows_only,) = [each for each in components.values() if each["name"] == "tzdata"]
    assert windows_only["properties"] == [
        {"name": "registration-persistence:marker", "value": "sys_platform == 'win32'"},
    ]
    assert found["metadata"]["timestamp"] == "2026-11-30T00:53:20+00:00"

    graph = {each["ref"]: each["dependsOn"] for each in found["dependencies"]}
    root = found["metadata"]["component"]["bom-ref"]
    assert graph.keys() == {root, *components}
    reached, pending = set[str](), [root]
    while pending:
        new = set(graph[pending.pop()]) - reached
        reached |= new
        pending += new
    assert reached == components.keys()
    assert {"sqlalchemy", "psycopg", "boto3"} <= {components[each]["name"] for each in graph[root]}


def test_the_sbom_is_written_for_the_time_of_the_commit(checkout: Path) -> None:
    """The same sources give the same bytes, and a folder without a commit needs SOURCE_DATE_EPOCH."""
    for folder, name in (("requirements", "runtime.txt"), ("docs", "licences.md")):
        (checkout / folder).mkdir()
        shutil.copy(ROOT / folder / name, checkout / folder)
    command = [sys.executable, "release/sbom.py"]
    environ = {"PATH": os.environ["PATH"], "GIT_CEILING_DIRECTORIES": str(checkout.parent)}

    without = subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, check=False)
    written = set[bytes]()
    for seed in ("1", "2"):
        subprocess.run(
            command, cwd=checkout, env={**environ, "SOURCE_DATE_EPOCH": "1", "PYTHONHASHSEED": seed}, check=True
        )
        written.add((checkout / "build" / "registration_persistence.cdx.json").read_bytes())

    assert without.returncode == 1
    assert without.stderr == "this folder has no commit: set SOURCE_DATE_EPOCH to the time of the sources, in seconds\n"
    (text,) = written
    assert json.loads(text)["metadata"]["component"]["version"] == "1.2.3"


def test_files_of_others_are_not_tried(tmp_path: Path) -> None:
    """A missing distribution is wrong use, and a file with another name is an error; each is one line."""
    (tmp_path / "other-1.0-py3-none-any.whl").touch()
    (tmp_path / "registration_persistence-0.1.0.tar.gz").touch()

    def attempt(*names: str) -> tuple[int, str]:
        command: list[str | Path] = [sys.executable, "-I", ROOT / "release" / "try_distributions.py", *names]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    assert attempt("registration_persistence-0.1.0.tar.gz") == (
        2,
        "expected a wheel and an sdist: run `make dist`, or name them\n",
    )
    assert attempt("other-1.0-py3-none-any.whl", "registration_persistence-0.1.0.tar.gz") == (
        1,
        "other-1.0-py3-none-any.whl: this is neither a wheel nor an sdist of this package: run `make dist`\n",
    )
