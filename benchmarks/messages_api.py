"""What the two ways to the Messages API cost in CPU: plain HTTP, and Anthropic's SDK.

    python benchmarks/messages_api.py

Each is measured in processes of its own against a loopback server: from the start of Python to the
first answer, and for each further call, sixteen at once. docs/design/performance.md has the figures
and what follows from them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from statistics import median

CALLS, AT_ONCE, ROUNDS = 400, 16, 5
BODY = {
    "model": "claude-haiku-5-5",
    "max_tokens": 16,
    "system": [{"type": "text", "text": "Answer with a number. " * 50}],
    "messages": [{"role": "user", "content": "Which number is in this message? It is 7"}],
}
# With headers of the user's own, which only the SDK reads, that is what is taken.
WAYS = {"plain HTTP": {}, "the SDK": {"ANTHROPIC_CUSTOM_HEADERS": "X-Team: ours"}}


async def _ask(url: str) -> tuple[float, float]:
    """Make the calls in this process: seconds of CPU to the first answer, and for each other."""
    from skill_ratchet.providers.messages import PATH  # noqa: PLC0415 - imports are measured
    from skill_ratchet.providers.transport import connect  # noqa: PLC0415

    way = connect(base_url=url, api_key="k", timeout=60, connections=AT_ONCE)
    await way.post(PATH, BODY)
    first = time.process_time()
    slots = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with slots:
            assert (await way.post(PATH, BODY)).status == 200

    await asyncio.gather(*(one() for _ in range(CALLS)))
    last = time.process_time()
    await way.aclose()
    return first, (last - first) / CALLS


def measure(*, rounds: int) -> str:
    """A table of medians."""
    import shared  # noqa: PLC0415 - not in the processes that are measured
    from messages_fake import Model, serving  # noqa: PLC0415

    found: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    with serving(Model(lambda _: "7")) as server:
        for _ in range(rounds):
            for name, more in WAYS.items():  # in turns, so that other work hits both
                command = [sys.executable, __file__, "--ask", server.url]
                done = subprocess.run(
                    command, env={**os.environ, **more}, check=True, capture_output=True
                )
                first, each = json.loads(done.stdout)
                found[name].append((first, each))
    rows = [
        (
            name,
            f"{median(one[0] for one in made):.2f} s",
            f"{1e3 * median(one[1] for one in made):.2f} ms",
        )
        for name, made in found.items()
    ]
    return shared.markdown(("way", "start to first answer", "each further call"), rows)


def main() -> None:
    """Measure and print, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(_ask(given.ask))) if given.ask else measure(rounds=given.rounds))


if __name__ == "__main__":
    main()
