"""What clients send to Ollama's routes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from app.api.fields import Body, BodyT, Unused, read_as
from app.tasks.completion import MAX_STOPS, MAX_TOP_LOGPROBS
from app.tasks.conversation import MAX_MESSAGES, MAX_PARTS
from app.tasks.text import Text

MAX_INPUTS = 2048

_HARDWARE = "models.yaml says where and how a model runs"
UNUSED_IN_OPTIONS = Unused(
    harmless={
        "embedding_only": _HARDWARE,
        "f16_kv": _HARDWARE,
        "logits_all": _HARDWARE,
        "low_vram": _HARDWARE,
        "main_gpu": _HARDWARE,
        "mirostat_eta": "mirostat itself is refused",
        "mirostat_tau": "mirostat itself is refused",
        "num_batch": _HARDWARE,
        "num_ctx": "a model has all of its own context",
        "num_gpu": _HARDWARE,
        "num_keep": "nothing of a prompt is ever dropped",
        "num_thread": _HARDWARE,
        "numa": _HARDWARE,
        "use_mlock": _HARDWARE,
        "use_mmap": _HARDWARE,
        "vocab_only": _HARDWARE,
    },
    refused={
        "mirostat": ((0,), "it is not known here; temperature, top_p and min_p are"),
        "penalize_newline": ((True,), "penalties count line breaks as they count all tokens"),
        "repeat_last_n": ((-1, 64), "repeat_penalty looks at all of the text"),
        "tfs_z": ((1, 1.0), "it is not known here; typical_p and min_p are"),
    },
)
UNUSED_IN_CHAT = Unused(
    refused={
        "shift": ((False,), "nothing of a prompt is ever dropped"),
        "truncate": ((False,), "nothing of a prompt is ever dropped"),
    }
)
_PICTURES = "models here answer with text"
UNUSED_IN_GENERATE = Unused(
    refused={
        **UNUSED_IN_CHAT.refused,
        "context": (([],), "nothing is kept of a request; send the chat to /api/chat"),
        "height": ((), _PICTURES),
        "steps": ((), _PICTURES),
        "template": (("",), "a request cannot bring a template; the model's own is used, or none with raw"),
        "width": ((), _PICTURES),
    }
)
UNUSED_IN_EMBED = Unused()
UNUSED_IN_MESSAGES = Unused()
UNUSED_IN_SHOW = Unused(harmless={"system": "nothing is told for it", "verbose": "all is told anyway"})
REFUSED_PATHS: Mapping[str, str] = {
    "/api/pull": "models are declared in models.yaml, and their files fetched when they are loaded",
    "/api/push": "models are published on the Hugging Face Hub, not from here",
    "/api/create": "models are declared in models.yaml",
    "/api/copy": "models are declared in models.yaml; `aliases` gives one other names",
    "/api/delete": "models are declared in models.yaml; DELETE /v1/models/{id} unloads one",
    "/api/blobs/{digest}": "models are declared in models.yaml, and their files fetched when they are loaded",
    "/api/systemone": "it is a model of Ollama's own service",
    "/api/web_search": "this server searches nothing",
    "/api/web_fetch": "this server fetches nothing for a model",
}
"""Routes of Ollama's that are answered with 501, and why."""


class Options(Body):
    """What is known of Ollama's `options`."""

    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63, description="-1: another each time.")
    num_predict: int | None = Field(default=None, ge=-2, description="0 and less: as many as there is room.")
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_k: int | None = Field(default=None, ge=-1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    typical_p: float | None = Field(default=None, gt=0, le=1)
    repeat_penalty: float | None = Field(default=None, gt=0, le=10)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    stop: Annotated[list[Text], Field(max_length=MAX_STOPS)] | Text | None = None


class NamedBody(Body):
    model: str | None = Field(default=None, description="A declared model, with or without `:latest`.")
    options: dict[str, Any] | None = None
    keep_alive: float | str | None = Field(default=None, description="How long the model stays loaded afterwards.")


class GeneratingBody(NamedBody):
    stream: bool | None = Field(default=None, description="Unset: true.")
    format: Literal["", "json"] | dict[str, Any] | None = Field(default=None, description="json, or a JSON schema.")
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)


Images = Annotated[list[Text], Field(max_length=MAX_PARTS)]


class Function(Body):
    name: Text
    arguments: dict[str, Any] = {}
    index: int | None = None
    description: str | None = None


class ToolCall(Body):
    id: str | None = None
    type: Literal["function"] | None = None
    function: Function


class Message(Body):
    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    images: Images | None = None
    tool_calls: list[ToolCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class ToolFunction(Body):
    name: Text
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(Body):
    type: Literal["function"] = "function"
    function: ToolFunction


class ChatBody(GeneratingBody):
    """Without messages the model is loaded, or unloaded with `keep_alive: 0`."""

    messages: Annotated[list[Message], Field(max_length=MAX_MESSAGES)] | None = None
    tools: list[Tool] | None = None


class GenerateBody(GeneratingBody):
    """Without a prompt the model is loaded, or unloaded with `keep_alive: 0`."""

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    images: Images | None = None
    raw: bool | None = Field(default=None, description="The prompt as it is, without the model's template.")


class EmbedBody(NamedBody):
    """options: checked, and none of them changes a vector."""

    input: str | Annotated[list[Text], Field(max_length=MAX_INPUTS)]
    truncate: bool | None = Field(default=None, description="Cut what is too long. Unset: true.")
    dimensions: int | None = Field(default=None, ge=1)


class EmbeddingsBody(NamedBody):
    """The older route's."""

    prompt: str


class ShowBody(Body):
    model: str | None = None
    name: str | None = Field(default=None, description="The older name of `model`.")


def read_body(model: type[BodyT], body: Mapping[str, Any], unused: Unused) -> BodyT:
    """Raises InvalidInput naming the field."""
    return read_as(model, unused.without(body))


def read_options(given: Mapping[str, Any] | None) -> Options:
    """Raises InvalidInput."""
    return read_as(Options, UNUSED_IN_OPTIONS.without(given or {}, where="options"), where="options")


_DURATIONS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "ns": 1e-9}
_GO_DURATION = re.compile(r"(?:(?:\d+(?:\.\d*)?)(?:h|ms|us|ns|m|s))+", re.ASCII)
_GO_PART = re.compile(r"(\d+(?:\.\d*)?)(h|ms|us|ns|m|s)", re.ASCII)


def read_keep_alive(given: float | str | None) -> float | str | None:
    """As this server has it: any negative duration is -1, and Go's `1h30m` is a number of seconds."""
    if isinstance(given, str):
        text = given.strip()
        if text.startswith("-") and _GO_DURATION.fullmatch(text[1:] if text[-1:].isalpha() else f"{text[1:]}s"):
            return -1
        if len(text) <= 32 and _GO_DURATION.fullmatch(text):
            return sum(float(number) * _DURATIONS_S[unit] for number, unit in _GO_PART.findall(text))
        return given
    return -1 if given is not None and given < 0 else given


def is_unload(given: float | str | None) -> bool:
    return given is not None and read_keep_alive(given) in (0, "0")
