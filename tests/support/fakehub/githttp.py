"""Git over HTTP: git's own ``http-backend``, told who asks and what is protected."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from pathlib import Path

    from fakehub.repo import Bare

PATH: Final = re.compile(r"/([^/]+)/([^/]+?)(?:\.git)?(/(?:info/refs|git-(?:upload|receive)-pack))")
PUSH: Final = "git-receive-pack"

# git runs this for each branch that is pushed. The words are GitHub's.
_UPDATE_HOOK: Final = """#!/bin/sh
for name in $FAKEHUB_PROTECTED; do
    if [ "$1" = "refs/heads/$name" ]; then
        echo "error: GH006: Protected branch update failed for $1." >&2
        exit 1
    fi
done
"""


_PASSED: Final = ("PATH", "HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "TMPDIR")


@dataclass(frozen=True, kw_only=True)
class GitRequest:
    """What git asks of the server; ``service`` is what follows the repository's path."""

    method: str
    service: str
    query: str
    headers: dict[str, str]
    body: bytes
    user: str
    protected: list[str]


@dataclass(frozen=True, kw_only=True)
class GitReply:
    """What git's backend answered."""

    status: int
    headers: dict[str, str]
    body: bytes


class Backend:
    """Serves one bare repository, whose configuration and hooks stay as they are.

    What is read is asked of git once: an answer is the same while all refs are.
    """

    offers: ClassVar[dict[tuple[object, ...], GitReply]] = {}  # by configuration

    def __init__(self, git: Bare, hooks: Path) -> None:
        self.git = git
        self.repository = git.path
        self.hooks = hooks
        self._config = (git.path / "config").read_bytes()
        self._read: dict[tuple[object, ...], GitReply] = {}
        hook = hooks / "update"
        hook.write_text(_UPDATE_HOOK)
        hook.chmod(0o755)

    def answer(self, asked: GitRequest) -> GitReply:
        """Answer one request."""
        if PUSH in asked.service or PUSH in asked.query:
            return self._run(asked)
        known, key = self._place(asked)
        if key in known:
            return known[key]
        reply = self._run(asked)
        if self._place(asked)[1] == key:  # nobody has pushed meanwhile
            known[key] = reply
        return reply

    def _place(self, asked: GitRequest) -> tuple[dict[tuple[object, ...], GitReply], Any]:
        """Where an answer is kept, and under which name."""
        version, encoding = (
            asked.headers.get(each) for each in ("git-protocol", "content-encoding")
        )
        question = (asked.method, asked.service, asked.query, version, encoding, asked.body)
        if asked.method == "GET" and version == "version=2":  # what git can do; nothing of refs
            return self.offers, (self._config, *question)
        return self._read, (*question, self.git.head, *self.git.refs("refs").items())

    def _run(self, asked: GitRequest) -> GitReply:
        settings = {
            "http.receivepack": "true",
            "core.hooksPath": str(self.hooks),
            "receive.hideRefs": "refs/pull",
            "safe.directory": "*",
            "uploadpack.allowFilter": "true",
            "uploadpack.allowAnySHA1InWant": "true",
        }
        pairs = enumerate(settings.items())
        config = {
            name: value
            for at, (key, setting) in pairs
            for name, value in ((f"GIT_CONFIG_KEY_{at}", key), (f"GIT_CONFIG_VALUE_{at}", setting))
        }
        passed = {
            "CONTENT_TYPE": asked.headers.get("content-type", ""),
            "HTTP_CONTENT_ENCODING": asked.headers.get("content-encoding", ""),
            "GIT_PROTOCOL": asked.headers.get("git-protocol", ""),
        }
        env = {
            **{name: os.environ[name] for name in _PASSED if name in os.environ},
            **config,
            **{key: value for key, value in passed.items() if value},
            "GIT_CONFIG_COUNT": str(len(settings)),
            "GIT_PROJECT_ROOT": str(self.repository.parent),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": f"/{self.repository.name}{asked.service}",
            "QUERY_STRING": asked.query,
            "REQUEST_METHOD": asked.method,
            "CONTENT_LENGTH": str(len(asked.body)),
            "REMOTE_USER": asked.user,
            "REMOTE_ADDR": "127.0.0.1",
            "FAKEHUB_PROTECTED": " ".join(asked.protected),
        }
        done = subprocess.run(
            ["git", "http-backend"], input=asked.body, env=env, check=True, capture_output=True
        )
        return _parsed(done.stdout)


def _parsed(output: bytes) -> GitReply:
    head, _, body = output.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    status = int(headers.pop("Status", "200 OK").split(" ")[0])
    return GitReply(status=status, headers=headers, body=body)
