"""Chatting with a model that generates text: streamed, over the same route that OpenAI's clients use."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.api.schemas import ModelCard
from app.ui.client import ApiError
from app.ui.look.html import html
from app.ui.try_it.uploads import read_upload
from app.ui.try_it.widget import upload_folder

if TYPE_CHECKING:
    from app.ui.pages import Visits

WITH_PICTURES = frozenset({"image-text-to-text", "any-to-any"})
CHAT_TASKS = frozenset({"text-generation"}) | WITH_PICTURES

_READY_BOX: dict[str, Any] = {"submit_btn": True, "stop_btn": False}

Message = dict[str, Any]


def chat(visits: Visits, card: ModelCard, *, with_pictures: bool) -> None:
    """Within a Blocks context."""
    shown = gr.Chatbot(height=420, show_label=False, placeholder="Say something.", buttons=["copy"], layout="bubble")
    with gr.Row(equal_height=True):
        box = gr.Textbox(
            placeholder="Message", show_label=False, scale=8, max_lines=6, submit_btn=True, interactive=True
        )
        picture = gr.Image(
            type="filepath",
            format="png",
            label="Picture",
            height=90,
            visible=with_pictures,
            scale=2,
            buttons=[],
            interactive=True,
        )
    with gr.Accordion("Settings", open=False):
        system = gr.Textbox("", label="System message", lines=2, interactive=True)
        with gr.Row():
            temperature = gr.Slider(0, 2, value=0.7, step=0.05, label="Temperature", interactive=True)
            max_tokens = gr.Slider(16, 2048, value=256, step=16, label="Most tokens", interactive=True)
        schema = gr.Code("", language="json", label="JSON schema that the answer keeps to", lines=3, interactive=True)
        tools = gr.Code("", language="json", label="Tools, as OpenAI's API takes them", lines=3, interactive=True)
    html('<p class="ps-note">Enter sends, Shift+Enter begins a new line.</p>')

    async def answer(
        request: gr.Request, text: str, file: str | None, history: list[Message], *settings: Any
    ) -> AsyncIterator[tuple[Any, Any, Any]]:
        if not text.strip():
            yield gr.skip(), gr.skip(), gr.skip()
            return
        history = [*history, *asked(text, file)]
        said = ""
        yield gr.Textbox("", submit_btn=False, stop_btn=True), None, [*history, _answer("…")]
        try:
            body = body_of(card.id, history, *settings, read=lambda path: read_upload(path, upload_folder()))
            async for part in visits.api.chat(visits.key_of(request), body):
                said += part
                yield gr.skip(), gr.skip(), [*history, _answer(said)]
            yield gr.Textbox(**_READY_BOX), gr.skip(), [*history, _answer(said or "(It said nothing.)")]
        except (ApiError, ValueError) as error:
            yield gr.Textbox(text, **_READY_BOX), gr.skip(), [*history, _answer(f"⚠ {error}")]

    inputs = [box, picture, shown, system, temperature, max_tokens, schema, tools]
    sending = box.submit(
        answer, inputs, [box, picture, shown], show_progress="hidden", concurrency_limit=None, api_visibility="private"
    )
    box.stop(lambda: gr.Textbox(**_READY_BOX), None, box, cancels=[sending], api_visibility="private")


def _answer(text: str) -> Message:
    return {"role": "assistant", "content": text}


def asked(text: str, file: str | None) -> list[Message]:
    """As Gradio shows it: a picture is a message of its own."""
    pictures = [] if file is None else [{"role": "user", "content": {"path": file}}]
    return [*pictures, {"role": "user", "content": text}]


def body_of(
    model: str,
    history: list[Message],
    system: str,
    temperature: float,
    max_tokens: float,
    schema: str,
    tools: str,
    *,
    read: Callable[[str], str],
) -> dict[str, Any]:
    """Of /v1/chat/completions. read: of a picture's path, its base64. Raises ValueError with a sentence."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system.strip() else []
    for message in history:
        parts = _parts(message["content"], read)
        last = messages[-1] if messages else None
        if last is not None and last["role"] == message["role"] == "user":
            last["content"] = [*_as_list(last["content"]), *_as_list(parts)]
        else:
            messages.append({"role": message["role"], "content": parts})
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "stream": True,
        "temperature": temperature,
        "max_tokens": int(max_tokens),
    }
    if schema.strip():
        described = {"name": "answer", "schema": _json(schema, "JSON schema")}
        body["response_format"] = {"type": "json_schema", "json_schema": described}
    if tools.strip():
        body["tools"] = _json(tools, "Tools")
    return body


def _parts(content: Any, read: Callable[[str], str]) -> Any:
    """Gradio gives contents back as lists of its own parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part for one in content for part in _as_list(_parts(one, read))]
        return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts
    if content.get("type") == "text":
        return str(content["text"])
    path = content.get("path") or content["file"]["path"]
    return [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{read(str(path))}"}}]


def _as_list(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _json(text: str, label: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{label}: this is not JSON ({error}).") from None
