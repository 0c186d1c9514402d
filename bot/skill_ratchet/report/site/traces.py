"""The page of single model calls: one page for all, and their data in files of scripts.

A page that was opened from the disk may load no data but scripts. So the traces of a group (an
experiment, or a text's kept runs) are in ``traces/<skill>/<group>/<n>.js``, each of which calls
one function with a text of JSON, and are listed in ``index.js`` beside them. ``trace.html`` loads
the file that its address names. The traces of one file are in memory at a time.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from skill_ratchet.report import conversation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from jinja2 import Environment

    from skill_ratchet.core.records import Trace
    from skill_ratchet.report.conversation import Block

PAGE: Final = "trace.html"
ROOM: Final = 400_000  # bytes of a file; a trace that is longer has a file of its own
_SHARED: Final = 100  # characters; a file has each longer text once
KEPT: Final = "kept-"  # runs of a text, for whatever experiments
SEALED: Final = "-holdout"
_LINE: Final = re.compile(rf"^.{{{_SHARED},}}$", re.MULTILINE)
_HEX: Final = re.compile(r"[0-9a-f]{12,64}")
# None of these is in JSON outside of its texts, where they may be written so.
_WRITTEN: Final = {mark: f"\\u{ord(mark):04x}" for mark in "`$<>&\x7f"}


def script(told: str) -> str:
    """A script of ASCII that hands ASCII JSON to the page, and that no text in it can end.

    The page parses it as JSON; as a program a key ``__proto__`` would be no key.
    """
    for mark, written in _WRITTEN.items():
        told = told.replace(mark, written)  # many times as quick as ``translate``
    return f"ratchet(String.raw`{told}`);\n"


# One for all: ``json.dumps`` makes a new one each time.
_json: Final = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(slots=True)
class _File:
    """The traces of one file, as JSON, and the texts that they share."""

    traces: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    size: int = 0

    def add(self, trace: Trace, said: Iterable[Block], bodies: dict[str, str]) -> None:
        told = {
            "id": trace.id,
            "facts": [*conversation.facts(trace).items()],
            "blocks": [
                [one.part, one.role, one.kind, one.name, self._share(one.text)] for one in said
            ],
            "bodies": {name: self._parts(body) for name, body in bodies.items()},
        }
        self.traces.append(_json(told))
        self.size += len(self.traces[-1])

    def _parts(self, body: str) -> list[str | int]:
        """A body in parts of whole lines: long lines, and what is between them."""
        parts: list[str | int] = []
        at = 0
        for line in _LINE.finditer(body):
            if at < line.start():
                parts.append(body[at : line.start() - 1])
            parts.append(self._share(line[0]))
            at = line.end() + 1
        return [*parts, body[at:]] if at <= len(body) else parts

    def _share(self, text: str) -> str | int:
        """The text itself, or its number among the shared ones."""
        if len(text) < _SHARED:
            return text
        if text not in self.numbers:
            self.numbers[text] = len(self.texts)
            self.texts.append(_json(text))
            self.size += len(self.texts[-1])
        return self.numbers[text]

    def json(self) -> str:
        return f'{{"texts":[{",".join(self.texts)}],"traces":[{",".join(self.traces)}]}}'


@dataclass(slots=True)
class _Group:
    """What is listed together: a row for each trace, and where one goes back to."""

    label: str = ""
    url: str = ""
    files: int = 0
    rows: list[str] = field(default_factory=list)


class Writer:
    """Writes traces below a folder as they come.

    Args:
        folder: The report's; it is there.
        environment: Of its templates.
        redact: Goes over all JSON before it is written.
    """

    def __init__(
        self, folder: Path, *, environment: Environment, redact: Callable[[str], str] = str
    ) -> None:
        self._folder = folder
        self._environment = environment
        self._redact = redact
        self.traces = 0  # so far
        self._groups: dict[str, _Group] = {}
        self._name, self._file = "", _File()

    def add(self, trace: Trace) -> str:
        """Take a trace in; its URL relative to the folder.

        Traces of a group that follow each other share files.
        """
        name = _group(trace)
        said = [
            one for one in conversation.blocks(trace) if not one.aside
        ]  # facts and bodies say it
        bodies = conversation.bodies(trace.reply)
        length = sum([len(one.text) for one in said]) + sum(map(len, bodies.values()))
        if name != self._name or self._file.size + length > ROOM:
            self._write()
        self._name = name
        group = self._groups.setdefault(name, _Group())
        self._file.add(trace, said, bodies)
        self.traces += 1
        group.rows.append(_json(_row(trace, group.files, number=len(group.rows) + 1)))
        return f"{PAGE}?x={name}&t={quote(trace.id, safe='')}"

    def name(self, skill: str, owner: str, *, label: str, url: str) -> None:
        """Say what an owner of runs is called and where its page is, relative to the folder.

        Args:
            skill: Whose it is.
            owner: An experiment's id, or the digest of a text with kept runs.
            label: For people.
            url: Of its page.
        """
        for before, after in (("", ""), ("", SEALED), (KEPT, ""), (KEPT, SEALED)):
            if group := self._groups.get(f"{skill}/{before}{_short(owner)}{after}"):
                group.label, group.url = label, url

    def home(self, skill: str, *, label: str, url: str) -> None:
        """Say where one goes from traces that are of no experiment."""
        for name, group in self._groups.items():
            if name.startswith(f"{skill}/") and not group.url:
                group.label, group.url = label, url

    def close(self) -> None:
        """Write what is left: the last file, the lists, the page."""
        self._write()
        for name, group in self._groups.items():
            about = _json({"label": group.label, "url": group.url})
            told = f'{about[:-1]},"traces":[{",".join(group.rows)}]}}'
            self._script(f"{name}/index.js", told)
        html = self._environment.get_template(PAGE).render(path=PAGE, root="")
        (self._folder / PAGE).write_text(html, encoding="utf-8", newline="\n")

    def _write(self) -> None:
        if self._file.traces:
            group = self._groups[self._name]
            self._script(f"{self._name}/{group.files}.js", self._file.json())
            group.files += 1
        self._file = _File()

    def _script(self, path: str, told: str) -> None:
        file = self._folder / "traces" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(script(self._redact(told)), encoding="ascii", newline="\n")


def _group(trace: Trace) -> str:
    """What a trace is listed under, as a folder: an experiment, a text, the proposer's calls."""
    key = trace.key
    owner = trace.experiment if key is None else key.experiment
    sealed = "" if trace.split == "train" else SEALED
    if trace.job == "meta":
        return f"{trace.skill}/proposer"
    name = _short(owner) if owner else f"{KEPT}{_short(key.skill if key else '')}"
    return f"{trace.skill}/{name}{sealed}"


def _short(owner: str) -> str:
    """The first twelve digits of a digest; what is none gets one, for it becomes a path."""
    return owner[:12] if _HEX.fullmatch(owner) else sha256(owner.encode()).hexdigest()[:12]


def _row(trace: Trace, file: int, *, number: int) -> list[Any]:
    """What the list says of a trace: id, file, job, name, side, repeat, score, split, failed."""
    return [
        trace.id,
        file,
        trace.job,
        trace.fixture if trace.job != "meta" else f"Proposer's call {number}",
        trace.side or "",
        trace.key.replicate if trace.key else None,
        trace.score.value if trace.score else None,
        trace.split,
        bool(trace.reply.error or trace.scorer_error),
    ]
