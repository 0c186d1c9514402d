"""The workflow files as they run: under act, without Docker, against the fake GitHub.

The actions of others are replaced by the small ones beside this file, which do the same with the
fake and with folders of this machine. Ratchet's own action is what it is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fakehub import FakeHub

ROOT = Path(__file__).parents[3]
STUBS = Path(__file__).parent
PROGRAM = Path(sysconfig.get_path("scripts")) / "act"
ACTION = f"octo/ratchet@{'0123456789' * 4}"  # what the projects under test say behind `uses:`
PARTS = ("action.yml", "bot", "requirements", "skills")  # of Ratchet, what its action needs
KEY = "sk-ant-api03-a-key-that-nobody-has"
_UNKNOWN = re.compile(r"^ *queue: max\n", re.MULTILINE)  # act knows nothing newer than itself
_USES = re.compile(r"uses: (actions/([\w-]+)@[0-9a-f]{40})")


@dataclass(frozen=True)
class Finished:
    """How a run of a workflow ended."""

    code: int
    log: str
    jobs: Mapping[str, str]  # by name, 'success' or 'failure'; what was skipped is not there

    def said(self, job: str) -> str:
        """What one job wrote."""
        lines = self.log.splitlines()
        return "\n".join(line for line in lines if line.split("] ")[0].endswith(f"/{job}"))


class Act:
    """Runs workflows of a repository on the fake.

    Args:
        hub: The fake.
        folder: For everything that is written.
        token: What the workflow gets as its own token.
    """

    def __init__(self, hub: FakeHub, folder: Path, *, token: str) -> None:
        self.hub, self.folder, self.token = hub, folder, token
        self.app_token = hub.add_user("dora")  # a person's will do for an App's
        self._runs = 0
        folder.mkdir()
        self.action = folder / "action"
        self.action.mkdir()
        skip = shutil.ignore_patterns("__pycache__")
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, self.action / part, ignore=skip)
            else:
                shutil.copy(ROOT / part, self.action / part)

    def run(
        self,
        workflow: str,
        event: str,
        payload: Mapping[str, Any] | None = None,
        *,
        variables: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> Finished:
        """Run a workflow of the default branch as it is now.

        Args:
            workflow: Its file's name.
            event: What has happened.
            payload: The event's own facts; the repository's are added.
            variables: Of the repository, for ``vars``.
            secrets: Besides the model's key.
        """
        self._runs += 1
        place = self.folder / f"run{self._runs}"
        place.mkdir()
        checkout = place / "checkout"
        subprocess.run(
            ["git", "clone", "--quiet", self.hub.clone_url_for(self.token), str(checkout)],
            check=True,
        )
        facts = {"repository": self._repository(), **(payload or {})}
        (place / "event.json").write_text(json.dumps(facts))
        text = (checkout / ".github/workflows" / workflow).read_text("utf-8")
        file = place / workflow
        file.write_text(_UNKNOWN.sub("", text))
        given = {
            "--env": self._environment(place),
            "--var": variables or {},
            "-s": {"GITHUB_TOKEN": self.token, "ANTHROPIC_API_KEY": KEY, **(secrets or {})},
            "--local-repository": self._replacements(text),
        }
        line = [
            *(str(PROGRAM), event, "-W", str(file), "-e", str(place / "event.json")),
            *("-P", "ubuntu-latest=-self-hosted", "--no-skip-checkout", "--action-offline-mode"),
            *("--no-cache-server", "--action-cache-path", str(place / "cache")),
        ]
        for option, pairs in given.items():
            line += [word for pair in pairs.items() for word in (option, "=".join(pair))]
        # A runner knows nothing of this machine: no identity of git's, no key of anybody's.
        env = {name: os.environ[name] for name in ("PATH", "HOME")} | {"LANG": "C.UTF-8"}
        done = subprocess.run(
            line,
            cwd=checkout,
            env=env,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
        )
        log = done.stdout + done.stderr
        return Finished(done.returncode, log, _jobs(log))

    def comment(self, login: str, number: int, body: str, **user: str) -> Finished:
        """Let a person comment, and run what that starts."""
        name = self.hub.person_comments(login, number, body)
        said = next(one for one in self.hub.comments(number) if one.id == name)
        who = {"login": login, "type": "User", **user}
        facts = {
            "action": "created",
            "sender": who,
            "issue": {
                "number": number,
                "pull_request": {} if self.hub.issue(number).pull else None,
            },
            "comment": {
                "id": said.id,
                "user": who,
                "body": said.body,
                "created_at": said.created_at,
                "updated_at": said.updated_at,
                "performed_via_github_app": None,
            },
        }
        return self.run("ratchet-command.yml", "issue_comment", facts)

    def issue(self, login: str, body: str) -> Finished:
        """Let a person open an issue, and run what that starts."""
        number = self.hub.person_opens_issue(login, "Correction", body)
        opened = self.hub.issue(number)
        who = {"login": login, "type": "User"}
        facts = {
            "action": "opened",
            "sender": who,
            "issue": {
                "number": number,
                "user": who,
                "body": opened.body,
                "created_at": opened.created_at,
                "performed_via_github_app": None,
            },
        }
        return self.run("ratchet-command.yml", "issues", facts)

    def review(self, login: str, number: int, event: str, body: str = "") -> Finished:
        """Let a person review a pull request, and run what that starts."""
        self.hub.person_reviews(login, number, event, body)
        pull = self.hub.issue(number).pull
        assert pull
        given = pull.reviews[-1]
        who = {"login": login, "type": "User"}
        review = {"id": given.id, "user": who, "state": given.state.lower(), "body": given.body}
        facts = self.pull_facts(number) | {"review": review, "sender": who, "action": "submitted"}
        return self.run("ratchet-command.yml", "pull_request_review", facts)

    def file(self, name: str) -> str:
        """What the last run left in its folder."""
        return (self.folder / f"run{self._runs}" / name).read_text("utf-8")

    def status(self, sha: str) -> str:
        """The state of the commit's status."""
        return self.hub.state.latest_statuses(sha)["ratchet/holdout"].state

    def pull_facts(self, number: int) -> dict[str, Any]:
        """What an event says of a pull request."""
        issue = self.hub.issue(number)
        assert issue.pull
        name = self.hub.repository.partition("/")[2]
        head = {
            "ref": issue.pull.head,
            "sha": issue.pull.head_sha,
            "repo": {"full_name": f"{issue.pull.head_owner}/{name}"},
        }
        pull = {
            "number": number,
            "draft": issue.pull.draft,
            "user": {"login": issue.user.login},
            "head": head,
            "base": {"ref": issue.pull.base, "sha": issue.pull.base_sha},
        }
        return {"pull_request": pull, "number": number, "action": "opened"}

    def dispatched(self) -> Finished:
        """Run the workflow that was started last."""
        last = self.hub.dispatches[-1]
        return self.run(last.workflow, "workflow_dispatch", {"inputs": dict(last.inputs)})

    def _repository(self) -> dict[str, Any]:
        owner, name = self.hub.repository.split("/")
        return {
            "full_name": self.hub.repository,
            "name": name,
            "owner": {"login": owner},
            "default_branch": "main",
        }

    def _environment(self, place: Path) -> dict[str, str]:
        (place / "artifacts").mkdir()
        return {
            "GITHUB_REPOSITORY": self.hub.repository,
            "GITHUB_API_URL": self.hub.url,
            "GITHUB_GRAPHQL_URL": self.hub.graphql,
            "GITHUB_SERVER_URL": self.hub.web,
            "ACT_PYTHON": str(STUBS / "python"),
            "ACT_REAL_PYTHON": sys.executable,
            "ACT_PACKAGES": sysconfig.get_path("purelib"),
            "ACT_ARTIFACTS": str(place / "artifacts"),
            "ACT_APP_TOKEN": self.app_token,
            "PIP_NO_INDEX": "1",
            "TERM": "dumb",  # act gives every step a terminal, GitHub none
        }

    def _replacements(self, workflow: str) -> dict[str, str]:
        ours = (self.action / "action.yml").read_text("utf-8")
        found = _USES.findall(workflow) + _USES.findall(ours)
        return {ACTION: str(self.action), **{name: str(STUBS / kind) for name, kind in found}}


def _jobs(log: str) -> dict[str, str]:
    ended = re.findall(r"^\[[^/\]]+/([^\]]+?)\s*\].*Job (succeeded|failed)$", log, re.MULTILINE)
    return {name: "success" if how == "succeeded" else "failure" for name, how in ended}
