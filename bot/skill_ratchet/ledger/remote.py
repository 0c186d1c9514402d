"""What is fetched from and pushed to the remote ``origin``, with git itself."""

from __future__ import annotations

import base64
import os
from functools import lru_cache
from typing import TYPE_CHECKING

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.ledger import Ref, replay
from skill_ratchet.project import repository
from skill_ratchet.project.repository import run

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from skill_ratchet.base.git import Output
    from skill_ratchet.project.repository import Project

_UNREACHED = (
    "Try 'git ls-remote origin' to see whether it can be reached, and run again: nothing is lost."
)
TRIES = 5  # pushes, while others push to the same branch
# Whole, also into a clone that leaves contents out: nothing may be fetched by accident later.
_FETCH = (
    "fetch",
    "--quiet",
    "--no-tags",
    "--no-write-fetch-head",
    "--no-filter",
    "--no-recurse-submodules",
)


def fetch(project: Project, branch: str) -> None:
    """Bring in the commits of a branch of the remote; no branch of this clone moves."""
    _talk(project, *_FETCH, "origin", f"+refs/heads/{branch}:refs/ratchet/origin/{branch}")


def fetch_pull(project: Project, number: int) -> str:
    """Bring in the commits of a pull request, a fork's too, as data; returns its head."""
    name = f"refs/ratchet/origin/pull/{number}"
    _talk(project, *_FETCH, "origin", f"+refs/pull/{number}/head:{name}")
    return run(project, "rev-parse", "--verify", name).text


def fetch_ledger(project: Project, refs: Collection[Ref]) -> dict[Ref, bool]:
    """Bring the ledger's branches from the remote to this clone, whole.

    A branch that this clone has of its own is moved only forwards. Returns which of ``refs`` the
    remote has.
    """
    there = _talk(project, "ls-remote", "--quiet", "origin", *(ref.value for ref in refs)).text
    have = {line.split("\t")[1] for line in there.splitlines()}
    promisor = run(project, "config", "--get", "remote.origin.promisor", ok=(0, 1)).text
    # A partial clone may know the commits already, without their contents.
    again = ("--refetch",) if promisor == "true" else ()
    for ref in refs:
        if ref.value not in have:
            continue
        theirs = f"refs/remotes/origin/{ref.branch}"
        _talk(project, *_FETCH, *again, "origin", f"+{ref.value}:{theirs}")
        own = run(project, "for-each-ref", "--format=%(objectname)", ref.value).text
        if own and _is_ancestor(project, own, theirs):
            run(project, "update-ref", ref.value, theirs, own)
    return {ref: ref.value in have for ref in refs}


def hides_ledger(project: Project) -> bool:
    """Whether ``origin`` has a ledger, and this is a clone of a part of it, as of one branch.

    Any other has the ledger since it was made.

    Raises:
        RatchetError: The remote cannot be asked.
    """
    asked = ("config", "--get-all", "remote.origin.fetch")
    specs = run(project, *asked, ok=(0, 1)).text.split()
    whole = any("refs/heads/*:" in spec for spec in specs) and not repository.is_shallow(project)
    if not specs or whole:
        return False
    return bool(_talk(project, "ls-remote", "--quiet", "origin", Ref.LEDGER.value).text)


def fetch_runs(project: Project) -> dict[Ref, bool]:
    """Bring what runs have cost from the remote: for a shallow clone, and little more than that.

    Of the branch ratchet/ledger its last commit is fetched, without contents but for the records
    of runs. A clone with the whole history gets the branch whole, as nothing else fits it.
    """
    if not repository.is_shallow(project):
        return fetch_ledger(project, (Ref.LEDGER,))
    theirs = f"refs/remotes/origin/{Ref.LEDGER.branch}"
    if not _talk(project, "ls-remote", "--quiet", "origin", Ref.LEDGER.value).text:
        return {Ref.LEDGER: False}
    leave = ("--filter=blob:none", "--no-recurse-submodules", "--no-write-fetch-head", "--no-tags")
    fetch = ("fetch", "--quiet", *leave)
    _talk(project, *fetch, "--depth=1", "origin", f"+{Ref.LEDGER.value}:{theirs}")
    listed = run(project, "ls-tree", "-r", "-z", theirs).fields
    runs = [line.split("\t")[0].split()[2] for line in listed if "/runs/" in line]
    wanted = "".join(f"{oid}\n" for oid in runs).encode()
    if wanted:  # as git itself asks for what it finds missing
        quick = ("-c", "fetch.negotiationAlgorithm=noop")
        _talk(project, *quick, *fetch, "--stdin", "origin", stdin=wanted)
    return {Ref.LEDGER: True}


def push(project: Project, commit: str, *, branch: str, expect: str | None) -> None:
    """Put a branch of the remote at ``commit`` if it still is at ``expect`` (None: not there)."""
    lease = f"--force-with-lease=refs/heads/{branch}:{expect or ''}"
    _talk(project, "push", "--quiet", lease, "origin", f"{commit}:refs/heads/{branch}")


def _talk(
    project: Project, *args: str, ok: Collection[int] = (0,), stdin: bytes | None = None
) -> Output:
    """A git command that speaks with the remote, with the workflow's token where it is one's."""
    try:
        return run(project, *args, ok=ok, stdin=stdin, env=_login(project, os.environ))
    except RatchetError as error:
        raise RatchetError(error.message, hint=error.hint or _UNREACHED) from error


def _login(project: Project, environ: Mapping[str, str]) -> dict[str, str]:
    """Git settings that carry ``GITHUB_TOKEN`` to GitHub and to no other server.

    They go by the environment: an argument could be seen by other processes, and a setting in a
    file would stay behind. A checkout that has kept credentials of its own uses those.
    """
    server = (environ.get("GITHUB_SERVER_URL") or "https://github.com").rstrip("/")
    token = environ.get("GITHUB_TOKEN")
    if not token:
        return {}
    origin, has_own = _origin(project, (project.common_dir / "config").stat().st_mtime_ns)
    if not origin.startswith(f"{server}/") or has_own:
        return {}
    secret = base64.b64encode(f"x-access-token:{token}".encode()).decode("ascii")
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{server}/.extraheader",
        "GIT_CONFIG_VALUE_0": f"AUTHORIZATION: basic {secret}",
    }


@lru_cache(maxsize=8)
def _origin(project: Project, changed: int) -> tuple[str, bool]:  # noqa: ARG001  asks anew then
    """Where ``origin`` is, and whether git has a credential for it that a checkout has kept."""
    origin = run(project, "remote", "get-url", "origin", ok=range(256)).text
    known = run(project, "config", "--get-urlmatch", "http.extraheader", origin, ok=(0, 1))
    return origin, bool(known.text)


def _is_ancestor(project: Project, older: str, newer: str) -> bool:
    return run(project, "merge-base", "--is-ancestor", older, newer, ok=(0, 1)).status == 0


def ledger_commit(project: Project, *, folder: str) -> str:
    """The last commit of the branch ratchet/ledger that changed something in a folder.

    What links to it need not be written again whenever another skill's records come in.
    """
    return run(project, "rev-list", "--max-count=1", Ref.LEDGER.value, "--", folder).text


def push_ledger(project: Project, *, skill: str) -> None:
    """Publish the ledger's branches; what others published meanwhile stays.

    Each skill has a folder of its own, and one job at a time works on a skill. So where the remote
    has moved, this skill's files go on top of what is there.

    Raises:
        RatchetError: The remote has other versions of this skill's files, or refuses.
    """
    # As a flush does it: a verdict on the ledger always has its evidence. A job that is started
    # again after the first of the two finds an experiment that is still open, and goes on.
    for ref in (Ref.HOLDOUT, Ref.LEDGER):
        if run(project, "for-each-ref", ref.value).text:
            _push_ref(project, ref, skill=skill)


def _push_ref(project: Project, ref: Ref, *, skill: str) -> None:
    theirs = f"refs/ratchet/origin/{ref.branch}"
    for _ in range(TRIES):
        pushed = _talk(project, "push", "--quiet", "origin", f"{ref}:{ref}", ok=range(256))
        if pushed.status == 0:
            return
        if not _talk(project, "ls-remote", "origin", ref.value).text:
            break
        fetch(project, ref.branch)
        if _is_ancestor(project, theirs, ref.value):
            break  # it was not refused for being behind
        own = run(project, "rev-parse", ref.value).text
        joined = replay.put_on_top(project, ref, own, here=theirs, skill=skill)
        run(project, "update-ref", ref.value, joined, own)
    raise RatchetError(
        f"Branch {ref.branch} could not be published: {pushed.error.strip()}",
        hint="Run this job again; what was measured is in its bundle.",
    )
