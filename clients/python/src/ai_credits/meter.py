"""Reads what a model's response used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from . import usage
from .call import Used
from .estimate import output_tokens, text_bytes

Ending = Literal["complete", "stopped", "failed"]
"""How a response ended: it is complete, the consumer stopped, or the model failed."""
Fate = Literal["pass", "hide", "last"]
"""What happens with an event of a stream: the caller gets it, or not, or it is the last one."""

LAST_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed"})


class Meter:
    """Collects the usage that a response reports, and what an estimate needs if it reports none."""

    def __init__(self, held: Mapping[str, int]) -> None:
        self.held_input = {unit: count for unit, count in held.items() if unit != "output_tokens"}
        self.reported: dict[str, int] | None = None
        self.reported_input: dict[str, int] | None = None
        self.size = 0
        """The bytes of the text, the reasoning and the arguments of tools that were received."""
        self.tool_calls = 0

    def response(self, body: Mapping[str, Any]) -> None:
        """Reads a whole response."""
        raise NotImplementedError

    def event(self, data: Mapping[str, Any]) -> Fate:
        """Reads an event of a stream."""
        raise NotImplementedError

    def used(self, ending: Ending) -> Used | None:
        """Returns what was used. None if the provider charges nothing."""
        if self.reported is not None:
            return Used(self.reported)
        # A provider charges nothing for an error before the first output, but the input of a response that is stopped.
        input_counts = self.reported_input is not None and ending != "failed"
        if not (self.size or self.tool_calls or input_counts):
            return None
        read = self.held_input if self.reported_input is None else self.reported_input
        output = {"output_tokens": output_tokens(self.size), "tool_calls": self.tool_calls}
        return Used({**read, **output}, estimated=True)


class ChatCompletionMeter(Meter):
    """Reads chat completions of OpenAI."""

    def __init__(self, held: Mapping[str, int], hides_usage: bool) -> None:
        super().__init__(held)
        self._hides_usage = hides_usage

    def response(self, body: Mapping[str, Any]) -> None:
        self._read(body, "message")

    def event(self, data: Mapping[str, Any]) -> Fate:
        self._read(data, "delta")
        return "hide" if self._hides_usage and data.get("usage") and not data.get("choices") else "pass"

    def _read(self, data: Mapping[str, Any], part: str) -> None:
        if given := data.get("usage"):
            self.reported = usage.chat_completion_units(given)
        self.size += text_bytes([choice.get(part) for choice in data.get("choices") or ()])


class ResponseMeter(Meter):
    """Reads responses of OpenAI."""

    def response(self, body: Mapping[str, Any]) -> None:
        output = body.get("output") or []
        if given := body.get("usage"):
            self.reported = usage.response_units(given, output)
        self.size += text_bytes(output)

    def event(self, data: Mapping[str, Any]) -> Fate:
        kind = data.get("type")
        if kind != "response.audio.delta":
            self.size += text_bytes(data.get("delta"))
        if kind == "response.output_item.done" and data["item"].get("type") in usage.CHARGED_TOOLS:
            self.tool_calls += 1
        if kind not in LAST_EVENTS:
            return "pass"
        if given := data["response"].get("usage"):
            self.reported = usage.response_units(given, data["response"].get("output") or ())
        return "last"


class EmbeddingMeter(Meter):
    """Reads embeddings of OpenAI."""

    def response(self, body: Mapping[str, Any]) -> None:
        if given := body.get("usage"):
            self.reported = usage.embedding_units(given)
        elif body.get("data"):
            self.reported_input = self.held_input


class MessageMeter(Meter):
    """Reads messages of Anthropic."""

    def __init__(self, held: Mapping[str, int]) -> None:
        super().__init__(held)
        self._usage: dict[str, Any] = {}

    def response(self, body: Mapping[str, Any]) -> None:
        if given := body.get("usage"):
            self.reported = usage.message_units(given)
        self.size += text_bytes(body.get("content"))

    def event(self, data: Mapping[str, Any]) -> Fate:
        kind = data.get("type")
        if kind == "message_start":
            self._usage = dict(data["message"]["usage"])
            self.reported_input = usage.message_units({**self._usage, "output_tokens": 0, "server_tool_use": None})
        elif kind == "content_block_delta":
            delta = data["delta"]
            self.size += sum(text_bytes(delta.get(part)) for part in ("text", "thinking", "partial_json"))
        elif kind == "message_delta":
            # The counts are cumulative. Those that are null stay as the start has reported them.
            self._usage |= {name: count for name, count in data["usage"].items() if count is not None}
            self.reported = usage.message_units(self._usage)
        return "last" if kind == "message_stop" else "pass"
