"""LangChain: a stream, answers of a given form, an agent with a tool: `pip install langchain langchain-openai`."""

import os
from typing import Literal

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

URL = os.environ.get("PIPESERVE_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("PIPESERVE_API_KEY", "none")

chat = ChatOpenAI(model="chat", base_url=f"{URL}/v1", api_key=KEY, temperature=0)
for part in chat.stream("Who are you?"):
    print(part.text, end="", flush=True)
print()

# Many at once: the server computes them together.
for answer in chat.batch(["Hello!", "Tell me a joke!"]):
    print(answer.text)


class Mood(BaseModel):
    """How the assistant is."""

    mood: Literal["happy", "angry", "calm"]


print("structured:", chat.with_structured_output(Mood).invoke("How are you?"))


def get_time() -> str:
    """The time of day."""
    return "17:45"


agent = create_agent(chat, tools=[get_time])
for message in agent.invoke({"messages": [("user", "What time is it?")]})["messages"]:
    print(f"{message.type}:", message.text or [call["name"] for call in message.tool_calls])
