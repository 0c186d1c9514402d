"""Where answers come from: one Protocol, one module each, one explicit dict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from skill_ratchet.core.records import Reply, Request
    from skill_ratchet.project.programs import Programs
    from skill_ratchet.project.repository import Project, Tree


class Provider(Protocol):
    """Something that answers requests; it opens nothing before the first.

    ``deterministic`` is True when the same request always gets the same answer, so that
    repeats carry no information (see docs/gate.md). ``concurrency`` is how many calls are
    worth having in flight at once. ``tools`` is True when it takes ``Request.tools``.
    """

    name: str
    tools: bool
    deterministic: bool
    concurrency: int

    async def complete(self, request: Request) -> Reply:
        """Answer one request. A failed call is a Reply with ``error``, never an exception."""
        ...

    def worst_case_usd(self, request: Request) -> float | None:
        """Upper bound of what the call can cost, in USD; None when no price is known."""
        ...

    async def aclose(self) -> None:
        """Release connections and processes."""
        ...


@dataclass(frozen=True, slots=True)
class _Given:
    project: Project
    tree: Tree
    programs: Programs | None


def _anthropic(config: Any, given: _Given) -> Provider:
    from skill_ratchet.providers.anthropic import Anthropic  # noqa: PLC0415 - imported where it is used

    single = Anthropic(
        base_url=config.base_url,
        timeout=config.timeout,
        max_retries=config.max_retries,
        concurrency=config.concurrency,
        cache=config.cache,
    )
    if not config.batch:
        return single
    from skill_ratchet.providers.batches import Batched  # noqa: PLC0415

    return Batched(
        single,
        folder=given.project.common_dir / "ratchet" / "batches",
        wait=config.batch_seconds,
        cache=config.cache,
        base_url=config.base_url,
    )


def _local(config: Any, given: _Given) -> Provider:  # noqa: ARG001
    from skill_ratchet.providers.local import Local  # noqa: PLC0415

    return Local(batch=config.batch)


def _scripted(config: Any, given: _Given) -> Provider:
    from skill_ratchet.project.skill_file import decode  # noqa: PLC0415
    from skill_ratchet.providers.scripted import Scripted  # noqa: PLC0415

    script = decode(given.tree.read(config.file), path=config.file)
    return Scripted(script=script, path=config.file, concurrency=config.concurrency)


def _command(config: Any, given: _Given) -> Provider:
    from skill_ratchet.providers.command import CommandProvider  # noqa: PLC0415

    return CommandProvider(
        command=config.command,
        timeout=config.timeout,
        concurrency=config.concurrency,
        deterministic=config.deterministic,
        programs=given.programs,
    )


PROVIDERS: dict[str, Callable[[Any, _Given], Provider]] = {
    "anthropic": _anthropic,
    "local": _local,
    "scripted": _scripted,
    "command": _command,
}


def build(
    config: Any, *, project: Project, tree: Tree, programs: Programs | None = None
) -> Provider:
    """The provider that a ``provider:`` section of ratchet.yml asks for.

    Args:
        config: One of the provider records of ``skill_ratchet.project.config``.
        project: Where batches are written down.
        tree: Where a script is read from.
        programs: Where a command is run; not needed by one that is asked nothing.
    """
    return PROVIDERS[config.type](config, _Given(project, tree, programs))
