"""Estimates what requests use at most."""

from typing import Any

import pytest

from ai_credits import anthropic, openai
from ai_credits.estimate import input_tokens, text_bytes
from ai_credits.gated import CreditsOptions

OPTIONS: CreditsOptions = {
    "operation": "chat",
    "consumer": {"kind": "action", "feature": "assistant", "user_id": "ada"},
}


def test_texts_have_a_token_per_three_bytes() -> None:
    assert input_tokens("") == 0
    assert input_tokens("1") == 1
    assert input_tokens("1234") == 2
    assert input_tokens("äöü") == 2
    assert input_tokens([{"role": "user", "content": [{"type": "text", "text": "12345"}]}]) == 5


def test_schemas_count_as_json() -> None:
    assert input_tokens(None, [{"a": 1}, None]) == 3


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_file", "file_data": "AAAA"},
        {"type": "image", "source": {"type": "base64", "data": "AAAA"}},
        {"type": "document", "source": {"type": "base64", "data": "AAAA"}},
        b"bytes",
    ],
)
def test_other_parts_have_a_thousand_tokens(part: Any) -> None:
    assert input_tokens([part]) == 1_000


def test_a_document_of_text_is_text() -> None:
    assert input_tokens({"type": "document", "source": {"type": "text", "data": "x" * 300}}) == 104


def test_a_number_is_a_token() -> None:
    assert input_tokens([[1, 2, 3], [4]]) == 4


def test_the_output_is_text_reasoning_and_arguments() -> None:
    message = {"role": "assistant", "content": "12", "tool_calls": [{"id": "call", "function": {"arguments": "345"}}]}
    assert text_bytes(message) == 5
    assert text_bytes([{"type": "thinking", "thinking": "1234", "signature": "xx"}, None]) == 4


@pytest.mark.parametrize(
    ("body", "units"),
    [
        ({"messages": "123"}, {"input_tokens": 1, "output_tokens": 4_096}),
        ({"messages": "123", "max_tokens": 7, "n": 3}, {"input_tokens": 1, "output_tokens": 21}),
        ({"messages": "123", "max_completion_tokens": 9, "tools": [{}]}, {"input_tokens": 3, "output_tokens": 9}),
    ],
)
def test_a_chat_completion_is_bounded(body: Any, units: dict[str, int]) -> None:
    assert bound_of_openai("/chat/completions", body) == units


def test_a_response_is_bounded() -> None:
    assert bound_of_openai("/responses", {"model": "m", "input": "123", "instructions": "456"}) == {
        "input_tokens": 2,
        "output_tokens": 4_096,
    }
    body = {"model": "m", "input": [], "max_output_tokens": 5}
    assert bound_of_openai("/responses", body) == {"input_tokens": 0, "output_tokens": 5}


def test_embeddings_are_bounded() -> None:
    assert bound_of_openai("/embeddings", {"input": ["123", "4"]}) == {"input_tokens": 2}


def test_a_message_is_bounded() -> None:
    asked = anthropic._gate("/v1/messages", {"messages": "123", "system": "4", "max_tokens": 5}, OPTIONS)
    assert asked is not None
    assert asked.units == {"input_tokens": 2, "output_tokens": 5}


def test_options_replace_the_estimate() -> None:
    options: CreditsOptions = {**OPTIONS, "default_max_tokens": 11}
    assert bound_of_openai("/chat/completions", {}, options) == {"input_tokens": 0, "output_tokens": 11}
    options = {**OPTIONS, "estimate": lambda body: {"images": body["n"]}}
    assert bound_of_openai("/chat/completions", {"n": 2}, options) == {"images": 2}


def bound_of_openai(path: str, body: Any, options: CreditsOptions = OPTIONS) -> Any:
    asked = openai._gate(path, body, options)
    assert asked is not None
    return asked.units
