"""How a release is made: who may do what, what it is made of, and that nothing else gets in.

The two linters go over these files with the others: see test_workflows.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.whole.test_workflows import parsed, steps

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / ".github/workflows/release.yml").read_text("utf-8")
RELEASE = parsed(TEXT)
CI = parsed((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
PERMISSIONS = {
    "build": {"contents": "read"},
    "attest": {"attestations": "write", "id-token": "write"},
    "pypi": {"id-token": "write"},
    "release": {"contents": "write"},
}
# Other people's actions, by the commit of the version that the comment names.
OTHERS = {
    "actions/attest-build-provenance": "a2bbfa25375fe432b6a289bc6b6cd05ecd0c4c32 # v4.1.0",
    "pypa/gh-action-pypi-publish": "dc37677b2e1c63e2034f94d8a5b11f265b73ba33 # v1.14.2",
}


def test_a_tag_alone_makes_a_release() -> None:
    assert RELEASE["on"] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+"]}}
    assert RELEASE["permissions"] == {}


def test_each_job_may_do_what_it_is_for() -> None:
    """What is built is built by a job that can neither write nor prove who it is."""
    assert {name: job["permissions"] for name, job in RELEASE["jobs"].items()} == PERMISSIONS
    assert "secrets." not in TEXT
    assert RELEASE["jobs"]["pypi"]["environment"] == "pypi"


def test_one_job_comes_after_the_other() -> None:
    """Nothing is published that was not attested, and no release says what PyPI has not."""
    needs = {name: job.get("needs") for name, job in RELEASE["jobs"].items()}
    assert needs == {"build": None, "attest": "build", "pypi": "attest", "release": "pypi"}


@pytest.mark.parametrize("name", [name for name in PERMISSIONS if name != "build"])
def test_a_job_with_a_right_runs_nothing_of_the_repository(name: str) -> None:
    """It has the files that were built, and nothing to build others from."""
    used = [step["uses"].partition("@")[0] for step in _steps(name) if "uses" in step]
    assert "actions/checkout" not in used
    assert used[0] == "actions/download-artifact"
    assert not [step for step in _steps(name) if "python" in step.get("run", "")]


def test_what_others_wrote_is_what_the_other_workflows_use() -> None:
    """The same commits, and two more that only a release needs."""
    elsewhere = (ROOT / ".github/workflows").glob("ratchet*.yml")
    known = set(re.findall(r"uses: (\S+@.+)", "".join(one.read_text("utf-8") for one in elsewhere)))
    known |= set(re.findall(r"uses: (\S+@.+)", (ROOT / ".github/workflows/ci.yml").read_text()))
    known |= {f"{name}@{commit}" for name, commit in OTHERS.items()}
    used = re.findall(r"uses: (.+)", TEXT)
    assert len(used) > 8
    assert set(used) <= known


def test_no_text_of_an_event_is_part_of_a_script() -> None:
    for document in (RELEASE, CI):
        assert [step for step in steps(document) if "${{" in step.get("run", "")] == []


def test_what_builds_was_reviewed() -> None:
    """By hash, as wheels; the lists that are audited are all there are."""
    listed = (ROOT / "requirements/release.txt").read_text("utf-8")
    names = re.findall(r"^(\S+==\S+).*\\\n    --hash=sha256:", listed, re.MULTILINE)
    assert len(names) == len(re.findall(r"^\S", listed, re.MULTILINE))
    assert {"hatchling", "cyclonedx-bom", "pip-audit"} <= {one.split("==")[0] for one in names}
    installs = [
        step["run"]
        for step in (*_steps("build"), *CI["jobs"]["audit"]["steps"])
        if "pip install" in step.get("run", "")
    ]
    assert len(installs) == 2
    for script in installs:
        for option in ("--no-deps", "--require-hashes", "--only-binary :all:"):
            assert option in script
    (audit,) = (s["run"] for s in CI["jobs"]["audit"]["steps"] if "pip-audit " in s.get("run", ""))
    assert "for list in requirements/*.txt" in audit
    assert "--require-hashes" in audit
    assert CI["jobs"]["audit"]["permissions"] == {"contents": "read"}


def test_the_version_that_the_tag_has_to_be() -> None:
    """As hatchling tells it, which the job asks."""
    told = subprocess.run(
        [sys.executable, "-m", "hatchling", "version"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert f'\nversion = "{told}"\n' in (ROOT / "pyproject.toml").read_text("utf-8")
    assert re.fullmatch(r"\d+\.\d+\.\d+", told)
    assert '= "$GITHUB_REF_NAME"' in TEXT


def _steps(job: str) -> list[dict[str, Any]]:
    return list(RELEASE["jobs"][job]["steps"])
