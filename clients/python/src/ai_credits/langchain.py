"""Gates the models of LangChain by callbacks.

LangChain calls a handler before each call of a model. If the handler raises, the model is not called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID
from weakref import WeakSet

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from .estimate import input_tokens, text_bytes
from .gated import DEFAULT_MAX_TOKENS, AsyncSettlement, CreditsOptions, Settlement, call_order, ending_of
from .meter import Ending, Meter
from .usage import CHARGED_TOOLS, chat_completion_units, count, langchain_units
from .workspace import AsyncWorkspace, Workspace

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["AsyncCreditsHandler", "CreditsHandler", "CreditsOptions", "WrongHandler", "langchain_units"]

MAX_TOKENS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
CHARGED_SERVER_TOOLS = frozenset({"web_search", "web_fetch"})


class WrongHandler(BaseException):
    """An `AsyncCreditsHandler` was used by a call that blocks.

    LangChain swallows its exceptions there, so a refusal would not stop the model. This is no
    `Exception`, and stops it.
    """


@dataclass(frozen=True)
class _Asked:
    """A call of a model that LangChain is about to make."""

    model: str
    units: Mapping[str, int]


def _asked(texts: object, details: Mapping[str, Any], options: CreditsOptions) -> _Asked:
    params: Mapping[str, Any] = details.get("invocation_params") or {}
    metadata: Mapping[str, Any] = details.get("metadata") or {}
    model = params.get("model") or params.get("model_name") or metadata.get("ls_model_name") or ""
    if estimate := options.get("estimate"):
        return _Asked(model, estimate({"messages": texts, **params}))
    limits = [params.get(name) for name in MAX_TOKENS] + [metadata.get("ls_max_tokens")]
    limit = next(filter(None, limits), options.get("default_max_tokens", DEFAULT_MAX_TOKENS))
    schemas = (params.get("tools"), params.get("functions"), params.get("response_format"))
    units = {"input_tokens": input_tokens(texts, schemas), "output_tokens": limit * (params.get("n") or 1)}
    return _Asked(model, units)


def _texts_of(messages: Sequence[Sequence[BaseMessage]]) -> list[object]:
    return [[message.content, getattr(message, "tool_calls", [])] for turn in messages for message in turn]


class _LangChainMeter(Meter):
    """Reads the results of LangChain."""

    def token(self, token: object, chunk: Any) -> None:
        """Reads a part of a stream."""
        message = getattr(chunk, "message", None)
        self.size += text_bytes(token) if message is None else _size_of(message)

    def result(self, result: LLMResult | None, ending: Ending) -> None:
        """Reads a whole result, or what a stream has given until it ended."""
        generations = [generation for choice in result.generations for generation in choice] if result else []
        messages = [message for it in generations if (message := getattr(it, "message", None))]
        texts = sum(map(_size_of, messages)) or sum(text_bytes(it.text) for it in generations)
        self.size = max(self.size, texts)
        if usage := next((it.usage_metadata for it in messages if getattr(it, "usage_metadata", None)), None):
            units = {**langchain_units(usage), "tool_calls": sum(map(_charged_tools, messages))}
            if usage.get("total_cost") == 0:
                # LangChain marks a response of its cache so. No model was called.
                self.size = 0
            elif ending == "complete" or count(usage.get("output_tokens")):
                self.reported = units
            else:
                self.reported_input = {unit: number for unit, number in units.items() if unit != "output_tokens"}
        elif result and (tokens := (result.llm_output or {}).get("token_usage")):
            self.reported = chat_completion_units(tokens)


def _size_of(message: Any) -> int:
    """Returns the bytes of a message. The blocks of a content include the arguments of tools."""
    if not isinstance(message.content, str):
        return text_bytes(message.content)
    calls = getattr(message, "tool_call_chunks", None) or getattr(message, "tool_calls", [])
    return text_bytes(message.content) + sum(text_bytes(call.get("args")) for call in calls)


def _charged_tools(message: Any) -> int:
    blocks = [block for block in message.content if isinstance(block, dict)]
    return sum(
        block.get("type") in CHARGED_TOOLS
        or (block.get("type") == "server_tool_use" and block.get("name") in CHARGED_SERVER_TOOLS)
        for block in blocks
    )


class CreditsHandler(BaseCallbackHandler):
    """Pays the calls of a model with credits. Pass it in `callbacks` of `invoke`, `stream`, `batch` and the like.

    With `ainvoke` and `astream` it works too, in threads of LangChain; `AsyncCreditsHandler` needs none.
    """

    raise_error = True

    def __init__(self, workspace: Workspace, **options: Unpack[CreditsOptions]) -> None:
        self._workspace = workspace
        self._options = options
        self._runs: dict[UUID, Settlement] = {}

    def on_chat_model_start(
        self, serialized: object, messages: list[list[BaseMessage]], *, run_id: UUID, **details: Any
    ) -> None:
        self._start(run_id, _asked(_texts_of(messages), details, self._options))

    def on_llm_start(self, serialized: object, prompts: list[str], *, run_id: UUID, **details: Any) -> None:
        self._start(run_id, _asked(prompts, details, self._options))

    def on_llm_new_token(self, token: object, *, chunk: Any = None, run_id: UUID, **details: Any) -> None:
        if run := self._runs.get(run_id):
            _meter_of(run).token(token, chunk)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **details: Any) -> None:
        self._end(run_id, "complete", response)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **details: Any) -> None:
        self._end(run_id, ending_of(error), details.get("response"), error)

    def _start(self, run_id: UUID, asked: _Asked) -> None:
        call = self._workspace.begin(call_order(asked.model, asked.units, self._options))
        self._runs[run_id] = Settlement(call, _LangChainMeter(asked.units))

    def _end(self, run_id: UUID, ending: Ending, result: LLMResult | None, error: BaseException | None = None) -> None:
        if run := self._runs.pop(run_id, None):
            _meter_of(run).result(result, ending)
            run.settle(ending, error)


class AsyncCreditsHandler(AsyncCallbackHandler):
    """Pays the calls of a model with credits. Pass it in `callbacks` of `ainvoke`, `astream`, `abatch` and the like."""

    raise_error = True
    # LangChain calls the handler in the task of the caller, so it notices if that ends without a result.
    run_inline = True

    def __init__(self, workspace: AsyncWorkspace, **options: Unpack[CreditsOptions]) -> None:
        self._workspace = workspace
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._runs: dict[UUID, AsyncSettlement] = {}
        self._task_of: dict[UUID, asyncio.Task[Any] | None] = {}
        self._tasks: WeakSet[asyncio.Task[Any]] = WeakSet()

    async def on_chat_model_start(
        self, serialized: object, messages: list[list[BaseMessage]], *, run_id: UUID, **details: Any
    ) -> None:
        await self._start(run_id, _asked(_texts_of(messages), details, self._options))

    async def on_llm_start(self, serialized: object, prompts: list[str], *, run_id: UUID, **details: Any) -> None:
        await self._start(run_id, _asked(prompts, details, self._options))

    async def on_llm_new_token(self, token: object, *, chunk: Any = None, run_id: UUID, **details: Any) -> None:
        if run := self._runs.get(run_id):
            _meter_of(run).token(token, chunk)

    async def on_llm_end(self, response: LLMResult, *, run_id: UUID, **details: Any) -> None:
        await self._end(run_id, "complete", response)

    async def on_llm_error(self, error: BaseException, *, run_id: UUID, **details: Any) -> None:
        await self._end(run_id, ending_of(error), details.get("response"), error)

    async def _start(self, run_id: UUID, asked: _Asked) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise WrongHandler("AsyncCreditsHandler gates ainvoke() and astream(); use CreditsHandler for invoke()")
        call = await self._workspace.begin(call_order(asked.model, asked.units, self._options))
        self._runs[run_id] = AsyncSettlement(call, _LangChainMeter(asked.units))
        if (task := asyncio.current_task()) and task not in self._tasks:
            self._tasks.add(task)
            task.add_done_callback(self._task_ended)
        self._task_of[run_id] = task

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        """Settles the runs of a task that was cancelled or failed.

        LangChain reports no end of an `ainvoke` that is cancelled. It starts some runs in tasks that end at once.
        """
        if task.cancelled() or task.exception():
            for run_id in [run_id for run_id, of in self._task_of.items() if of is task]:
                self._workspace._client._background(self._end(run_id, "stopped", None))

    async def _end(
        self, run_id: UUID, ending: Ending, result: LLMResult | None, error: BaseException | None = None
    ) -> None:
        self._task_of.pop(run_id, None)
        if run := self._runs.pop(run_id, None):
            _meter_of(run).result(result, ending)
            await run.settle(ending, error)


def _meter_of(run: Settlement | AsyncSettlement) -> _LangChainMeter:
    assert isinstance(run.meter, _LangChainMeter)
    return run.meter
