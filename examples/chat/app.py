"""A chat whose answers are paid with the credits of the asker's workspace."""

import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
from ai_credits import AsyncAICredits, InsufficientCredits, Unavailable
from ai_credits.openai import with_credits
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from openai import AsyncOpenAI, OpenAIError
from pydantic import BaseModel


class Question(BaseModel):
    workspace: str  # Your own session knows it, and the user. This example believes the browser.
    user: str
    message: str


app = FastAPI()
credits = AsyncAICredits(os.environ["CREDITS_URL"], os.environ["CREDITS_KEY"])
provider = AsyncOpenAI()


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).parent / "index.html")


@app.post("/chat")
async def chat(question: Question) -> StreamingResponse:
    openai = with_credits(
        provider,
        credits.workspace(question.workspace),
        operation="text.generate",
        model="standard",  # The model of the rate card.
        consumer={"kind": "action", "feature": "chat", "user_id": question.user},
    )
    stream = await openai.chat.completions.create(
        model=os.environ.get("CHAT_MODEL", "gpt-6-astra"),
        messages=[{"role": "user", "content": question.message}],
        max_completion_tokens=1_000,
        stream=True,
    )
    return StreamingResponse(words(stream), media_type="text/plain")


async def words(stream: Any) -> AsyncIterator[str]:
    # If the reader leaves, the model stops, and what it has said is charged.
    async with stream:
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content


@app.exception_handler(InsufficientCredits)
async def insufficient(_: Request, error: InsufficientCredits) -> JSONResponse:
    return JSONResponse({"error": error.prompt, "top_up_url": error.top_up_url}, 402)


@app.exception_handler(Unavailable)
async def unavailable(_: Request, error: Unavailable) -> JSONResponse:
    return JSONResponse({"error": "AI is not available at the moment. Try again soon."}, 503)


@app.exception_handler(OpenAIError)
async def failed(_: Request, error: OpenAIError) -> JSONResponse:
    return JSONResponse({"error": "The model failed. You were not charged."}, 502)


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", int(os.environ.get("PORT", "0"))))
    print(f"The chat is at http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.run(app, fd=listener.fileno(), log_level="warning")
