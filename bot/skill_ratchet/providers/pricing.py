"""What a model call costs in US dollars, from a price list that is never fetched."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from skill_ratchet.core.records import Usage, canonical_json

if TYPE_CHECKING:
    from skill_ratchet.core.records import Request

# What the server adds to a call by itself: the tool-use instructions (up to about 800 tokens) and
# the marks between turns.
OVERHEAD_TOKENS = 1_000
STEP = 256  # tokens; a bound is rounded up to it, so that few different ones are looked up


def price(model: str, usage: Usage) -> float | None:
    """The cost of one call in USD; None when the model has no known price.

    Args:
        model: Model id as sent in the call.
        usage: Tokens as the Messages API counts them: ``input_tokens`` leaves out those read from
            and written to the cache.
    """
    return _price(
        model,
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
    )


@lru_cache(maxsize=4096)  # a look-up takes a third of a millisecond, and calls are much alike
def _price(model: str, plain: int, read: int, written: int, output: int) -> float | None:
    import genai_prices  # noqa: PLC0415  a tenth of a second, and only needed once a call was made

    counted = genai_prices.Usage(  # its input_tokens, unlike ours, include the cached ones
        input_tokens=plain + read + written,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=output,
    )
    try:
        # calc_price reads the list inside the package; only an UpdatePrices would fetch one.
        found = genai_prices.calc_price(counted, model, provider_id="anthropic")
    except LookupError:
        return None
    return float(found.total_price)


def worst_case(request: Request) -> float | None:
    """An upper bound in USD of one billed attempt of this call; None when no price is known.

    Tokenisers work on bytes, so that no text is more tokens than it has UTF-8 bytes (English is
    about a quarter of that). All of it is taken to be written to the cache, the dearest way in,
    and the answer to fill ``max_tokens``, which includes thinking.
    """
    sent = [request.system, request.messages, request.tools, request.options]
    tokens = OVERHEAD_TOKENS + len(canonical_json(sent).encode())
    tokens += -tokens % STEP
    usage = Usage(cache_write_tokens=tokens, output_tokens=request.max_tokens)
    return price(request.model, usage)
