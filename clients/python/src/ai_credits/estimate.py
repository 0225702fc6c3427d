"""Estimates the tokens of requests, and of responses whose usage is not reported."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from .usage import plain

BYTES_PER_INPUT_TOKEN = 3
"""Texts of most languages have more bytes per token, so a hold is seldom too small."""
BYTES_PER_OUTPUT_TOKEN = 4
TOKENS_PER_PART = 1_000
NOT_TEXT = frozenset(
    [
        "image",
        "image_url",
        "input_image",
        "computer_screenshot",
        "audio",
        "input_audio",
        "video",
        "file",
        "input_file",
        "document",
        "container_upload",
        "media",
    ]
)
"""The types of the parts of a message that are no text."""
NOT_OUTPUT = frozenset(
    [
        "annotations",
        "call_id",
        "citations",
        "container_id",
        "data",
        "encrypted_content",
        "id",
        "index",
        "logprobs",
        "role",
        "signature",
        "status",
        "type",
    ]
)
"""The fields of an output whose texts are no tokens."""


def input_tokens(texts: object, schemas: Iterable[object] = ()) -> int:
    """Estimates the tokens of a request.

    These are a third of the bytes of its texts and of the JSON of its schemas, and 1,000 for each part that is no text.
    A number is a token, as in the input of embeddings.
    """
    size, tokens = _measure(texts)
    size += sum(len(json.dumps(schema, default=str).encode()) for schema in schemas if schema is not None)
    return _divided(size, BYTES_PER_INPUT_TOKEN) + tokens


def output_tokens(size: int) -> int:
    """Estimates the tokens of an output by the bytes of its texts."""
    return _divided(size, BYTES_PER_OUTPUT_TOKEN)


def text_bytes(value: object) -> int:
    """Returns the bytes of all texts of an output: its text, its reasoning and the arguments of tools."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, Mapping):
        return sum(text_bytes(part) for name, part in value.items() if name not in NOT_OUTPUT)
    return sum(map(text_bytes, value)) if isinstance(value, list) else 0


def _measure(value: object) -> tuple[int, int]:
    """Returns the bytes of texts, and the tokens of everything else."""
    if isinstance(value, str):
        return len(value.encode()), 0
    if value is None or isinstance(value, int | float):
        return 0, 0 if value is None else 1
    value = plain(value) if hasattr(value, "model_dump") else value
    if isinstance(value, Mapping) and not _is_not_text(value):
        value = list(value.values())
    if not isinstance(value, list | tuple):
        return 0, TOKENS_PER_PART
    measured = [_measure(part) for part in value]
    return sum(size for size, _ in measured), sum(tokens for _, tokens in measured)


def _is_not_text(part: Mapping[str, object]) -> bool:
    source = part.get("source")
    holds_text = isinstance(source, Mapping) and source.get("type") in ("text", "content")
    return part.get("type") in NOT_TEXT and not holds_text


def _divided(size: int, by: int) -> int:
    return -(-size // by)
