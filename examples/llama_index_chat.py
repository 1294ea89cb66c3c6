"""LlamaIndex: a stream, an answer of a given form, and an agent with a tool.

`pip install llama-index-core llama-index-llms-openai-like`
"""

import asyncio
import os
from typing import Literal

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

URL = os.environ.get("PIPESERVE_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("PIPESERVE_API_KEY", "none")

chat = OpenAILike(
    model="chat",
    api_base=f"{URL}/v1",
    api_key=KEY,
    is_chat_model=True,  # else /v1/completions is asked, without the chat template
    is_function_calling_model=True,
    context_window=4096,
    temperature=0,
)
for part in chat.stream_chat([ChatMessage(content="Who are you?")]):
    print(part.delta or "", end="", flush=True)
print()


class Mood(BaseModel):
    """How the assistant is."""

    mood: Literal["happy", "angry", "calm"]


print("structured:", chat.as_structured_llm(Mood).complete("How are you?").raw)


def get_time() -> str:
    """The time of day."""
    return "17:45"


async def main() -> None:
    answer = await FunctionAgent(tools=[get_time], llm=chat).run("What time is it?")
    for call in answer.tool_calls:
        print("called:", call.tool_name, call.tool_output.content)
    print("agent:", answer.response.content)


asyncio.run(main())
