"""Maps the usage that providers report to units. Each token counts in one unit only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

CHARGED_TOOLS = frozenset({"web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call"})
"""The types of output items of OpenAI's own tools, which OpenAI charges for each call."""

BESIDE_USAGE = frozenset({"compaction", "advisor_message"})
"""The types of Anthropic's iterations whose tokens its totals leave out."""


def chat_completion_units(usage: Any) -> dict[str, int]:
    """Returns the units of a chat completion of OpenAI. Its totals include the details."""
    given = plain(usage)
    prompt, completion = plain(given.get("prompt_tokens_details")), plain(given.get("completion_tokens_details"))
    inside = {
        "cached_input_tokens": prompt.get("cached_tokens"),
        "cache_write_tokens": prompt.get("cache_write_tokens"),
        "audio_input_tokens": prompt.get("audio_tokens"),
    }
    produced = {
        "reasoning_tokens": completion.get("reasoning_tokens"),
        "audio_output_tokens": completion.get("audio_tokens"),
    }
    return {
        **exclusive(given.get("prompt_tokens"), inside, "input_tokens"),
        **exclusive(given.get("completion_tokens"), produced, "output_tokens"),
    }


def response_units(usage: Any, output: Iterable[Any] = ()) -> dict[str, int]:
    """Returns the units of a response of OpenAI, and counts the calls of OpenAI's own tools in its output."""
    given = plain(usage)
    details, produced = plain(given.get("input_tokens_details")), plain(given.get("output_tokens_details"))
    inside = {
        "cached_input_tokens": details.get("cached_tokens"),
        "cache_write_tokens": details.get("cache_write_tokens"),
    }
    return {
        **exclusive(given.get("input_tokens"), inside, "input_tokens"),
        **exclusive(
            given.get("output_tokens"), {"reasoning_tokens": produced.get("reasoning_tokens")}, "output_tokens"
        ),
        "tool_calls": sum(plain(item).get("type") in CHARGED_TOOLS for item in output),
    }


def embedding_units(usage: Any) -> dict[str, int]:
    """Returns the units of embeddings of OpenAI."""
    return {"input_tokens": count(plain(usage).get("prompt_tokens"))}


def message_units(usage: Any) -> dict[str, int]:
    """Returns the units of a message of Anthropic. It counts tokens of the cache beside the input, and thinking inside
    the output."""
    given = plain(usage)
    iterations = [plain(it) for it in given.get("iterations") or ()]
    parts = [given, *(it for it in iterations if it.get("type") in BESIDE_USAGE)]

    def total(name: str) -> int:
        return sum(count(part.get(name)) for part in parts)

    thinking = plain(given.get("output_tokens_details")).get("thinking_tokens")
    return {
        "input_tokens": total("input_tokens"),
        "cached_input_tokens": total("cache_read_input_tokens"),
        "cache_write_tokens": total("cache_creation_input_tokens"),
        **exclusive(total("output_tokens"), {"reasoning_tokens": thinking}, "output_tokens"),
        "tool_calls": sum(count(calls) for calls in plain(given.get("server_tool_use")).values()),
    }


def langchain_units(usage: Any) -> dict[str, int]:
    """Returns the units of LangChain's `usage_metadata`. Its totals include the details.

    OpenAI's service tiers prefix a detail's name (`flex_cache_read`), and Anthropic's lifetimes of cached tokens
    replace `cache_creation`.
    """
    given = plain(usage)
    details, produced = plain(given.get("input_token_details")), plain(given.get("output_token_details"))
    inside = {
        "cached_input_tokens": _sum_of(details, "cache_read"),
        "cache_write_tokens": _sum_of(
            details, "cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"
        ),
        "audio_input_tokens": details.get("audio"),
    }
    outside = {"reasoning_tokens": _sum_of(produced, "reasoning"), "audio_output_tokens": produced.get("audio")}
    return {
        **exclusive(given.get("input_tokens"), inside, "input_tokens"),
        **exclusive(given.get("output_tokens"), outside, "output_tokens"),
    }


def exclusive(total: object, classes: Mapping[str, object], rest: str) -> dict[str, int]:
    """Splits a total: each class gets at most what the total has left, and `rest` what remains."""
    left = count(total)
    units = {}
    for unit, reported in classes.items():
        units[unit] = min(count(reported), left)
        left -= units[unit]
    return {**units, rest: left}


def count(reported: object) -> int:
    """Returns a reported count as one that can be charged."""
    return max(0, int(reported)) if isinstance(reported, int | float) else 0


def plain(value: Any) -> Mapping[str, Any]:
    """Returns an object of an SDK, or a mapping, as a mapping."""
    if hasattr(value, "model_dump"):
        dumped: Mapping[str, Any] = value.model_dump(exclude_unset=True, warnings=False)
        return dumped
    return value if isinstance(value, Mapping) else {}


def _sum_of(details: Mapping[str, object], *names: str) -> int:
    return sum(count(value) for name, value in details.items() if name.endswith(names))
