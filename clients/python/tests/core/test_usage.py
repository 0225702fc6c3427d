"""Maps usage as the types of the SDKs have it."""

from typing import Any

import pytest
from anthropic.types import Usage
from anthropic.types.beta import BetaUsage
from langchain_core.messages.ai import UsageMetadata
from openai.types import CompletionUsage
from openai.types.create_embedding_response import Usage as EmbeddingUsage
from openai.types.responses import ResponseFunctionWebSearch, ResponseUsage

from ai_credits.anthropic import message_units
from ai_credits.langchain import langchain_units
from ai_credits.openai import chat_completion_units, embedding_units, response_units


def test_chat_completions() -> None:
    usage = CompletionUsage.model_validate(
        {
            "prompt_tokens": 1000,
            "completion_tokens": 500,
            "total_tokens": 1500,
            "prompt_tokens_details": {"cached_tokens": 200, "audio_tokens": 30, "cache_write_tokens": 50},
            "completion_tokens_details": {
                "reasoning_tokens": 300,
                "audio_tokens": 20,
                "accepted_prediction_tokens": 7,
                "rejected_prediction_tokens": 8,
            },
        }
    )
    units = {
        "input_tokens": 720,
        "cached_input_tokens": 200,
        "cache_write_tokens": 50,
        "audio_input_tokens": 30,
        "output_tokens": 180,
        "reasoning_tokens": 300,
        "audio_output_tokens": 20,
    }
    assert chat_completion_units(usage) == units
    assert chat_completion_units(usage.to_dict()) == units


def test_chat_completions_without_details() -> None:
    usage = CompletionUsage(prompt_tokens=10, completion_tokens=20, total_tokens=30)
    assert counted(chat_completion_units(usage)) == {"input_tokens": 10, "output_tokens": 20}


def test_responses() -> None:
    usage = ResponseUsage.model_validate(
        {
            "input_tokens": 1000,
            "output_tokens": 500,
            "total_tokens": 1500,
            "input_tokens_details": {"cached_tokens": 200, "cache_write_tokens": 50},
            "output_tokens_details": {"reasoning_tokens": 300},
        }
    )
    search = ResponseFunctionWebSearch.model_validate(
        {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}}
    )
    output = [search, {"type": "code_interpreter_call"}, {"type": "function_call"}, {"type": "message"}]
    assert response_units(usage, output) == {
        "input_tokens": 750,
        "cached_input_tokens": 200,
        "cache_write_tokens": 50,
        "output_tokens": 200,
        "reasoning_tokens": 300,
        "tool_calls": 2,
    }


def test_embeddings() -> None:
    assert embedding_units(EmbeddingUsage(prompt_tokens=8, total_tokens=8)) == {"input_tokens": 8}


def test_messages() -> None:
    usage = Usage.model_validate(
        {
            "input_tokens": 700,
            "cache_read_input_tokens": 200,
            "cache_creation_input_tokens": 100,
            "cache_creation": {"ephemeral_5m_input_tokens": 60, "ephemeral_1h_input_tokens": 40},
            "output_tokens": 500,
            "output_tokens_details": {"thinking_tokens": 300},
            "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
        }
    )
    assert message_units(usage) == {
        "input_tokens": 700,
        "cached_input_tokens": 200,
        "cache_write_tokens": 100,
        "output_tokens": 200,
        "reasoning_tokens": 300,
        "tool_calls": 3,
    }


def test_messages_without_details() -> None:
    usage = Usage(input_tokens=10, output_tokens=20)
    assert counted(message_units(usage)) == {"input_tokens": 10, "output_tokens": 20}


def test_messages_of_the_beta_count_what_their_totals_leave_out() -> None:
    tokens = {"cache_creation_input_tokens": 4, "cache_read_input_tokens": 5, "input_tokens": 6, "output_tokens": 7}
    usage = BetaUsage.model_validate(
        {
            "input_tokens": 10,
            "output_tokens": 20,
            "iterations": [
                {"type": "message", **tokens},
                {"type": "compaction", **tokens},
                {"type": "advisor_message", "model": "m", **tokens},
            ],
        }
    )
    assert counted(message_units(usage)) == {
        "input_tokens": 22,
        "cached_input_tokens": 10,
        "cache_write_tokens": 8,
        "output_tokens": 34,
    }


def test_langchain() -> None:
    usage: UsageMetadata = {
        "input_tokens": 1000,
        "output_tokens": 500,
        "total_tokens": 1500,
        "input_token_details": {"cache_read": 200, "cache_creation": 50, "audio": 30},
        "output_token_details": {"reasoning": 300, "audio": 20},
    }
    assert langchain_units(usage) == {
        "input_tokens": 720,
        "cached_input_tokens": 200,
        "cache_write_tokens": 50,
        "audio_input_tokens": 30,
        "output_tokens": 180,
        "reasoning_tokens": 300,
        "audio_output_tokens": 20,
    }


def test_langchain_with_names_of_providers() -> None:
    of_openai = {
        "input_tokens": 100,
        "output_tokens": 50,
        "input_token_details": {"flex_cache_read": 20, "flex": 80},
        "output_token_details": {"flex_reasoning": 30, "flex": 20},
    }
    assert counted(langchain_units(of_openai)) == {
        "input_tokens": 80,
        "cached_input_tokens": 20,
        "output_tokens": 20,
        "reasoning_tokens": 30,
    }
    details = {"cache_creation": 0, "ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}
    of_anthropic = {"input_tokens": 100, "output_tokens": 50, "input_token_details": details}
    assert counted(langchain_units(of_anthropic)) == {
        "input_tokens": 93,
        "cache_write_tokens": 7,
        "output_tokens": 50,
    }


@pytest.mark.parametrize("total", [0, 5, 100])
def test_inconsistent_counts_never_exceed_their_total(total: int) -> None:
    usage = {
        "prompt_tokens": total,
        "completion_tokens": total,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 60, "audio_tokens": -1},
        "completion_tokens_details": {"reasoning_tokens": 60, "audio_tokens": 60},
    }
    units = chat_completion_units(usage)
    assert min(units.values()) >= 0
    assert sum(count for unit, count in units.items() if "output" in unit or "reasoning" in unit) == total
    assert sum(units.values()) == 2 * total


def test_counts_that_are_absent_are_zero() -> None:
    for units in (
        chat_completion_units(None),
        response_units({"input_tokens": None}),
        embedding_units({}),
        message_units({"output_tokens_details": None, "iterations": None}),
        langchain_units({}),
    ):
        assert set(units.values()) == {0}


def counted(units: dict[str, int]) -> dict[str, Any]:
    return {unit: count for unit, count in units.items() if count}
