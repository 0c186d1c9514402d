"""Git over HTTP: git's own ``http-backend``, told who asks and what is protected."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

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


@dataclass(frozen=True, kw_only=True)
class GitReply:
    """What git's backend answered."""

    status: int
    headers: dict[str, str]
    body: bytes


class Backend:
    """Serves one bare repository, whose configuration and hooks stay as they are."""

    def __init__(self, repository: Path, hooks: Path) -> None:
        self.repository = repository
        self.hooks = hooks
        hook = hooks / "update"
        hook.write_text(_UPDATE_HOOK)
        hook.chmod(0o755)

    def answer(
        self,
        *,
        method: str,
        service: str,
        query: str,
        headers: dict[str, str],
        body: bytes,
        user: str,
        protected: list[str],
    ) -> GitReply:
        """Run the backend for one request; ``service`` is what follows the repository's path."""
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
            "CONTENT_TYPE": headers.get("content-type", ""),
            "HTTP_CONTENT_ENCODING": headers.get("content-encoding", ""),
            "GIT_PROTOCOL": headers.get("git-protocol", ""),
        }
        env = {
            **os.environ,
            **config,
            **{key: value for key, value in passed.items() if value},
            "GIT_CONFIG_COUNT": str(len(settings)),
            "GIT_PROJECT_ROOT": str(self.repository.parent),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": f"/{self.repository.name}{service}",
            "QUERY_STRING": query,
            "REQUEST_METHOD": method,
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_USER": user,
            "REMOTE_ADDR": "127.0.0.1",
            "FAKEHUB_PROTECTED": " ".join(protected),
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=env, check=True, capture_output=True
        )
        return _parsed(done.stdout)


def _parsed(output: bytes) -> GitReply:
    head, _, body = output.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    status = int(headers.pop("Status", "200 OK").split(" ")[0])
    return GitReply(status=status, headers=headers, body=body)
