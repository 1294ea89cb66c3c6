"""Messages by Anthropic's SDK, streamed, with tools and with a schema: `pip install anthropic`."""

import os
from typing import Literal

from anthropic import Anthropic
from anthropic.types import MessageParam, ToolParam
from pydantic import BaseModel

URL = os.environ.get("PIPESERVE_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("PIPESERVE_API_KEY", "none")
MODEL = "chat"
GREEDY = {"temperature": 0}  # the SDK has no argument for it any more

client = Anthropic(base_url=URL, api_key=KEY)
messages: list[MessageParam] = [{"role": "user", "content": "What time is it?"}]
print("tokens:", client.messages.count_tokens(model=MODEL, messages=messages).input_tokens)

with client.messages.stream(
    model=MODEL, max_tokens=100, messages=[{"role": "user", "content": "Who are you?"}], extra_body=GREEDY
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
    print(f"\n{stream.get_final_message().stop_reason}")


# Tools: the model asks for a call, we make it and say what came of it.
def get_time() -> str:
    return "17:45"


tools: list[ToolParam] = [
    {"name": "get_time", "description": "The time of day.", "input_schema": {"type": "object", "properties": {}}}
]
asked = client.messages.create(model=MODEL, max_tokens=100, messages=messages, tools=tools, extra_body=GREEDY)
messages.append({"role": "assistant", "content": asked.content})
for block in asked.content:
    if block.type == "tool_use":
        print("called:", block.name, block.input)
        messages.append(
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block.id, "content": get_time()}]}
        )
told = client.messages.create(model=MODEL, max_tokens=100, messages=messages, tools=tools, extra_body=GREEDY)
print("told:", *[block.text for block in told.content if block.type == "text"])


# An answer of a given form: the grammar holds whatever the model is.
class Mood(BaseModel):
    mood: Literal["happy", "angry", "calm"]


parsed = client.messages.parse(
    model=MODEL, max_tokens=100, messages=[{"role": "user", "content": "How are you?"}], output_format=Mood
)
print("parsed:", parsed.parsed_output)
