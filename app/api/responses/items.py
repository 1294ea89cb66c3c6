"""Items of a response's input: read, told again, and as the messages of a chat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from app.api.fields import Body, Unused, read_typed
from app.tasks.text import Text

MAX_ITEMS = 2048
Item = dict[str, Any]
"""As JSON has it, with an `id`."""

UNUSED_IN_PARTS = Unused(
    harmless={
        "annotations": "the text alone is read",
        "detail": "images are processed as the model's own files say",
        "logprobs": "the text alone is read",
        "parsed": "the text alone is read",
        "prompt_cache_breakpoint": "prompts are cached by their tokens",
    },
    refused={"file_id": ((), "there are no stored files here; send image_url")},
)
UNUSED_IN_ITEMS = Unused(
    harmless={
        "created_by": "the item alone is read",
        "parsed_arguments": "the arguments are read",
        "phase": "the message alone is read",
        "status": "an item is read as far as it goes",
    },
    refused={
        "async": ((False,), "the output of a call follows it"),
        "caller": (({"type": "direct"},), "functions are called by the model alone"),
        "encrypted_content": ((), "it can be read by OpenAI's servers alone; send the item's content"),
        "namespace": ((), "functions have names alone"),
    },
)


class InputText(Body):
    type: Literal["input_text"]
    text: str


class OutputText(Body):
    type: Literal["output_text"]
    text: str


class Refusal(Body):
    type: Literal["refusal"]
    refusal: str


class InputImage(Body):
    """image_url: base64 as a data URI, or a URL where the server allows these."""

    type: Literal["input_image"]
    image_url: Text


class AudioData(Body):
    """format: accepted; the file says what it is."""

    data: Text
    format: str | None = None


class InputAudio(Body):
    type: Literal["input_audio"]
    input_audio: AudioData


Part = InputText | OutputText | Refusal | InputImage | InputAudio
_PARTS: Mapping[str, type[Body]] = {
    "input_text": InputText,
    "output_text": OutputText,
    "refusal": Refusal,
    "input_image": InputImage,
    "input_audio": InputAudio,
}


class Message(Body):
    id: str | None = None
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Any]


class FunctionCall(Body):
    """arguments: JSON, as the model wrote it."""

    id: str | None = None
    type: Literal["function_call"]
    call_id: Text
    name: Text
    arguments: str


class FunctionCallOutput(Body):
    """name: accepted; the call says which function it was."""

    id: str | None = None
    type: Literal["function_call_output"]
    call_id: Text
    name: str | None = None
    output: str | list[Any]


class ReasoningText(Body):
    type: Literal["reasoning_text", "summary_text"]
    text: str


class ReasoningItem(Body):
    id: str | None = None
    type: Literal["reasoning"]
    summary: Annotated[list[ReasoningText], Field(default_factory=list)]
    content: list[ReasoningText] | None = None


_ITEMS: Mapping[str, type[Body]] = {
    "message": Message,
    "function_call": FunctionCall,
    "function_call_output": FunctionCallOutput,
    "reasoning": ReasoningItem,
}
_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


def read_items(given: str | Sequence[Any], make_id: Callable[[str], str]) -> list[Item]:
    """Raises InvalidInput naming the place. make_id: from a prefix."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    return [_read_item(one, f"input[{index}]", make_id) for index, one in enumerate(given)]


def _read_item(given: Any, where: str, make_id: Callable[[str], str]) -> Item:
    if isinstance(given, Mapping) and "role" in given:
        given = {"type": "message", **given}
    item = read_typed(_ITEMS, given, UNUSED_IN_ITEMS, where=where).model_dump(exclude_none=True)
    kind = item["type"]
    if kind == "message":
        item["content"] = _read_parts(item["content"], f"{where}.content", item["role"])
    if kind == "function_call_output" and not isinstance(item["output"], str):
        item["output"] = _read_parts(item["output"], f"{where}.output", "user")
    return {"id": make_id(_PREFIXES[kind]), **item, **({} if kind == "reasoning" else {"status": "completed"})}


def _read_parts(given: str | Sequence[Any], where: str, role: str) -> list[Item]:
    kind = "output_text" if role == "assistant" else "input_text"
    if isinstance(given, str):
        given = [{"type": kind, "text": given}]
    parts = []
    for index, one in enumerate(given):
        part = read_typed(_PARTS, one, UNUSED_IN_PARTS, where=f"{where}[{index}]").model_dump(exclude_none=True)
        if part["type"] == "output_text":
            part["annotations"] = []
        if part["type"] == "input_image":
            part["detail"] = "auto"
        parts.append(part)
    return parts


# As a chat


class ChatMessages:
    """Items as the messages of a chat. What an assistant thought, said and called in one turn is one message.

    places: of each message, the path of the item that it begins with.
    """

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.places: list[str] = []
        self._turn: dict[str, Any] | None = None

    def add_text(self, role: str, text: str, place: str) -> None:
        self._add({"role": role, "content": text}, place)

    def add_items(self, items: Iterable[Item], place: Callable[[int], str]) -> None:
        for index, item in enumerate(items):
            self._add_item(item, place(index))

    def _add_item(self, item: Item, place: str) -> None:
        kind = item["type"]
        if kind == "reasoning":
            told = item.get("content") or item.get("summary") or ()
            turn = self._turn_without("content", "tool_calls", place=place)
            turn["reasoning_content"] = turn.get("reasoning_content", "") + "".join(one["text"] for one in told)
        elif kind == "function_call":
            function = {"name": item["name"], "arguments": item["arguments"]}
            turn = self._turn_without(place=place)
            turn.setdefault("tool_calls", []).append({"id": item["call_id"], "type": "function", "function": function})
        elif kind == "function_call_output":
            content = item["output"] if isinstance(item["output"], str) else _chat_parts(item["output"])
            self._add({"role": "tool", "tool_call_id": item["call_id"], "content": content}, place)
        elif item["role"] == "assistant":
            self._turn_without("content", "tool_calls", place=place)["content"] = _chat_parts(item["content"])
        else:
            self._add({"role": item["role"], "content": _chat_parts(item["content"])}, place)

    def _add(self, message: dict[str, Any], place: str) -> None:
        self._turn = None
        self.messages.append(message)
        self.places.append(place)

    def _turn_without(self, *names: str, place: str) -> dict[str, Any]:
        """The assistant's turn that still lacks these, else a new one."""
        if self._turn is None or any(name in self._turn for name in names):
            message: dict[str, Any] = {"role": "assistant"}
            self._add(message, place)
            self._turn = message
        return self._turn


def _chat_parts(parts: Sequence[Item]) -> str | list[dict[str, Any]]:
    """Texts alone as one text."""
    told = [_chat_part(one) for one in parts]
    if all(one["type"] == "text" for one in told):
        return "".join(one["text"] for one in told)
    return told


def _chat_part(part: Item) -> dict[str, Any]:
    kind = part["type"]
    if kind == "input_image":
        return {"type": "image_url", "image_url": {"url": part["image_url"]}}
    if kind == "input_audio":
        return {"type": "input_audio", "input_audio": {"data": part["input_audio"]["data"]}}
    return {"type": "text", "text": part["refusal"] if kind == "refusal" else part["text"]}
