"""The workflows that build, try and publish the distributions, and the forms for contributors."""

import os
import re
import tomllib

from deployment.fake_cloud import ROOT
from deployment.workflow_files import WORKFLOWS, read_yaml, workflow

RELEASE, DISTRIBUTIONS = workflow("release.yml")["jobs"], workflow("distributions.yml")["jobs"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def uses(job: dict[str, list[dict[str, str]]]) -> list[str]:
    """Return the names of the actions of a job."""
    return [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step]


def commands(job: dict[str, list[dict[str, str]]]) -> list[str]:
    """Return the commands of a job."""
    return [step["run"] for step in job["steps"] if "run" in step]


def test_only_a_tag_of_a_version_is_released() -> None:
    """A pushed tag starts the workflow; the first job compares it with the version, and every other job needs that."""
    assert workflow("release.yml")["on"] == {"push": {"tags": ["v*"]}}
    assert commands(RELEASE["version"]) == ['python -I release/notes.py "$GITHUB_REF_NAME"']
    order = {name: job.get("needs") for name, job in RELEASE.items()}
    assert order == {
        "version": None,
        "distributions": "version",
        "attest": "distributions",
        "publish": "attest",
        "github": "publish",
    }
    for job in RELEASE.values():
        assert not {"if", "continue-on-error"} & job.keys()


def test_nothing_but_the_built_files_is_published() -> None:
    """The job that publishes runs no command and no code of the repository, and has the rights to log in alone."""
    publish = RELEASE["publish"]

    assert uses(publish) == ["actions/download-artifact", "pypa/gh-action-pypi-publish"]
    assert commands(publish) == []
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["environment"]["name"] == "pypi"
    assert publish["steps"][0]["with"] == {"name": "dist", "path": "dist/"}
    # No user and no password: PyPI trusts the identity of the workflow.
    assert publish["steps"][1]["with"] == {"attestations": "true", "print-hash": "true"}


def test_the_files_and_the_sbom_are_attested() -> None:
    """One attestation states the origin of the files, and another their SBOM; the job has no access to the code."""
    attest = RELEASE["attest"]

    assert attest["permissions"] == {"id-token": "write", "attestations": "write"}
    assert "actions/checkout" not in uses(attest)
    assert [step["with"] for step in attest["steps"] if step["uses"].startswith("actions/attest@")] == [
        {"subject-path": "dist/*"},
        {"subject-path": "dist/*", "sbom-path": "build/registration_persistence.cdx.json"},
    ]


def test_the_release_on_github_cannot_publish() -> None:
    """The job that creates the release may write to the repository, but cannot log in to PyPI."""
    assert RELEASE["github"]["permissions"] == {"contents": "write"}
    assert commands(RELEASE["github"]) == ['release/create-release "$GITHUB_REF_NAME"']
    assert os.access(ROOT / "release" / "create-release", os.X_OK)


def test_the_published_files_are_those_that_were_tried() -> None:
    """They are built once, and each version of Python on each kind of machine tries these files."""
    assert commands(DISTRIBUTIONS["build"]) == ["make dist", "make sbom"]
    assert commands(DISTRIBUTIONS["metadata"]) == ["make check-dist"]
    assert commands(DISTRIBUTIONS["try"]) == ["make try-dist"]
    for name in ("metadata", "try"):
        assert DISTRIBUTIONS[name]["needs"] == "build"
        assert "make dist" not in commands(DISTRIBUTIONS[name])
    supported = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    assert DISTRIBUTIONS["try"]["strategy"]["matrix"] == {
        "python": supported,
        "runner": ["ubuntu-24.04", "ubuntu-24.04-arm"],
    }
    for name in ("ci.yml", "release.yml"):
        assert workflow(name)["jobs"]["distributions"]["uses"] == "./.github/workflows/distributions.yml"


def test_artifacts_are_uploaded_once_and_under_the_names_that_are_read() -> None:
    """Each download names an artifact of the build, and uploads fail without files."""
    uploaded = {
        step["with"]["name"]: step["with"]
        for step in DISTRIBUTIONS["build"]["steps"]
        if step.get("uses", "").startswith("actions/upload-artifact@")
    }

    assert uploaded.keys() == {"dist", "sbom"}
    assert all(each["if-no-files-found"] == "error" for each in uploaded.values())
    for job in (*RELEASE.values(), *DISTRIBUTIONS.values()):
        for step in job.get("steps", []):
            if step.get("uses", "").startswith("actions/download-artifact@"):
                assert step["with"]["path"] == {"dist": "dist/", "sbom": "build/"}[step["with"]["name"]]


def test_a_bug_report_has_the_versions_and_no_secret() -> None:
    """The form requires the versions and a promise about private data, asks for the doctor, and never for a secret."""
    form = read_yaml(WORKFLOWS.parent / "ISSUE_TEMPLATE" / "bug.yml")

    fields = {each["id"]: each for each in form["body"] if "id" in each}
    required = {name for name, each in fields.items() if each.get("validations", {}).get("required") == "true"}
    assert required == {"behaviour", "reproduction", "version", "python", "postgresql", "place"}
    assert [each["required"] for each in fields["private"]["attributes"]["options"]] == ["true"]
    assert "`registration-persistence doctor`" in fields["doctor"]["attributes"]["description"]
    assert "Remove passwords, tokens" in form["body"][0]["attributes"]["value"]
    for each in fields.values():
        assert not re.search(r"secret|password|mailbox|token", each["attributes"]["label"], re.IGNORECASE)


def test_vulnerabilities_are_not_reported_as_issues() -> None:
    """An issue needs a form, and the list of forms links to the private report of this repository."""
    config = read_yaml(WORKFLOWS.parent / "ISSUE_TEMPLATE" / "config.yml")

    assert config["blank_issues_enabled"] == "false"
    (contact,) = config["contact_links"]
    assert contact["url"] == f"{PROJECT['urls']['Repository']}/security/advisories/new"


def test_each_path_has_an_owner() -> None:
    """The first line owns every file, and each other line names a folder that exists."""
    lines = [
        line.split()
        for line in (WORKFLOWS.parent / "CODEOWNERS").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]

    assert lines[0][0] == "*"
    assert all(owner.startswith("@") for _, *owners in lines for owner in owners)
    assert [] == [path for path, *_ in lines[1:] if not (ROOT / path.strip("/")).is_dir()]


def test_the_dev_container_has_the_packages_of_ci() -> None:
    """The image is pinned by digest, and has the packages of Debian that `.ci/run` installs."""
    dockerfile = (ROOT / ".devcontainer" / "Dockerfile").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

    assert re.search(
        r"^FROM mcr\.microsoft\.com/devcontainers/python:\S+@sha256:[0-9a-f]{64}$", dockerfile, re.MULTILINE
    )
    needed = set(re.findall(r"missing\+=\(([a-z0-9-]+)\)", ci))
    assert {"postgresql", "chromium-headless-shell"} <= needed
    assert needed <= set(dockerfile.split())
