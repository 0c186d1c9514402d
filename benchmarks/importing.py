"""How much memory an import takes, whatever the size of the log.

    python benchmarks/importing.py [MEGABYTES] [--limit N]

Writes a log of that size to a temporary folder (no two rows like each other, every answer another),
takes a few cases of it, and prints seconds and the peak of resident memory.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "bot"))

from skill_ratchet.cases.conversion import import_rows
from skill_ratchet.cases.importer import read_lines

WORDS = ("the", "card", "that", "I", "ordered", "has", "not", "come", "where", "it", "may", "be")
LENGTH = 80  # words of an input, and of an answer


def words(pick: random.Random) -> str:
    """A text that is like no other one."""
    return " ".join(pick.choices(WORDS, k=LENGTH))


def write(path: Path, *, megabytes: int) -> int:
    """A log of calls of the Messages API; how many rows it has."""
    number, pick = 0, random.Random(0)  # noqa: S311 - a log, no secret
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1_000_000:
            for _ in range(1000):
                number += 1
                asked = [{"role": "user", "content": f"{number}: {words(pick)}"}]
                said = {"content": [{"type": "text", "text": f"Answer {number}. {words(pick)}"}]}
                row = {"request": {"model": "m", "messages": asked}, "response": said}
                file.write(json.dumps(row) + "\n")
    return number


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("megabytes", type=int, nargs="?", default=200)
    parser.add_argument("--limit", type=int, default=100)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        count = write(path, megabytes=asked.megabytes)
        before, used = time.perf_counter(), time.process_time()
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            result = import_rows(
                read_lines(file), kind="messages", columns={}, path=path.name, limit=asked.limit
            )
        seconds, used = time.perf_counter() - before, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    print(
        f"{count:,} rows, {asked.megabytes} MB: {len(result.fixtures)} cases, "
        f"{seconds:.0f} s ({used:.0f} s of CPU), peak {peak:.0f} MiB"
    )


if __name__ == "__main__":
    main()
