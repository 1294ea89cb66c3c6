"""Chats by OpenAI's SDK, streamed, with a schema and with tools; and its newer responses: `pip install openai`."""

import os
from typing import Literal

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

URL = os.environ.get("PIPESERVE_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("PIPESERVE_API_KEY", "none")
MODEL = "chat"

client = OpenAI(base_url=f"{URL}/v1", api_key=KEY)
print("served:", *[model.id for model in client.models.list()])

# Token by token, with the number of tokens at the end.
stream = client.chat.completions.create(
    model=MODEL,
    messages=[{"role": "user", "content": "Who are you?"}],
    temperature=0,
    stream=True,
    stream_options={"include_usage": True},
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    if chunk.usage:
        print(f"\n{chunk.usage.completion_tokens} tokens")


# An answer of a given form: the grammar holds whatever the model is.
class Mood(BaseModel):
    mood: Literal["happy", "angry", "calm"]


parsed = client.chat.completions.parse(
    model=MODEL, messages=[{"role": "user", "content": "How are you?"}], response_format=Mood
)
print("parsed:", parsed.choices[0].message.parsed)


# Tools: the model asks for a call, we make it and say what came of it.
def get_time() -> str:
    return "17:45"


tools: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": "get_time",
            "description": "The time of day.",
            "parameters": {"type": "object", "properties": {}},
        },
    }
]
messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What time is it?"}]
asked = client.chat.completions.create(model=MODEL, messages=messages, tools=tools, temperature=0).choices[0].message
messages.append(asked.to_dict())  # type: ignore[arg-type]
for call in asked.tool_calls or []:
    if call.type == "function":
        print("called:", call.function.name, call.function.arguments)
        messages.append({"role": "tool", "tool_call_id": call.id, "content": get_time()})
told = client.chat.completions.create(model=MODEL, messages=messages, tools=tools, temperature=0)
print("told:", told.choices[0].message.content)

# Responses are kept for an hour, so that the next one goes on from the last.
first = client.responses.create(model=MODEL, input="Hello!", temperature=0)
second = client.responses.create(
    model=MODEL, input="Tell me a joke!", previous_response_id=first.id, temperature=0, max_output_tokens=60
)
print("response:", second.output_text)
