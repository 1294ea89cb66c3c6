"""Chatting with a model that generates text: streamed, over the same route that OpenAI's clients use."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.tasks.curl import command
from app.tasks.registry import TASKS
from app.ui.client import ApiError
from app.ui.look.html import html
from app.ui.try_it.asked import CardExample
from app.ui.try_it.beside import curl_html, error_html
from app.ui.try_it.opened import CHAT, Opened, examples_for
from app.ui.try_it.uploads import read_upload
from app.ui.try_it.widget import KEY_OPTION, upload_folder

if TYPE_CHECKING:
    from app.ui.pages import Visits

WITH_PICTURES = frozenset({"image-text-to-text", "any-to-any"})
CHAT_TASKS = frozenset({"text-generation"}) | WITH_PICTURES

_WAITING = "…"

Message = dict[str, Any]


def chat(visits: Visits, opened: Opened, *, url: str, needs_key: bool, with_pictures: bool) -> None:
    """Within a Blocks context. url: of the server as the visitor's browser knows it."""
    card = opened.details.model
    examples = _examples(opened)
    first = opened.asked.body.get("inputs") if opened.task == CHAT else None
    shown = gr.Chatbot(
        height=420,
        label="The conversation",
        show_label=False,
        placeholder="Say something.",
        buttons=["copy"],
        layout="bubble",
    )
    buttons = []
    if examples:
        with gr.Row(elem_classes="ps-examples"):
            buttons = [gr.Button(one.title, size="sm", min_width=60) for one in examples]
    box = gr.MultimodalTextbox(
        {"text": first if isinstance(first, str) else "", "files": []},
        placeholder="Message, or a picture" if with_pictures else "Message",
        label="Message",
        show_label=False,
        max_lines=6,
        sources=["upload"] if with_pictures else [],
        file_types=["image"],
        file_count="multiple",
        submit_btn=True,
        stop_btn=False,
        interactive=True,
    )
    with gr.Accordion("Settings", open=False):
        system = gr.Textbox("", label="System message", lines=2, interactive=True)
        with gr.Row():
            temperature = gr.Slider(0, 2, value=0.7, step=0.05, label="Temperature", interactive=True)
            max_tokens = gr.Slider(16, 2048, value=256, step=16, label="Most tokens", interactive=True)
        schema = gr.Code("", language="json", label="JSON schema that the answer keeps to", lines=3, interactive=True)
        tools = gr.Code("", language="json", label="Tools, as OpenAI's API takes them", lines=3, interactive=True)
    beside = html('<p class="ps-note">Enter sends, Shift+Enter begins a new line.</p>', elem_classes="ps-result")

    async def answer(
        request: gr.Request, said: dict[str, Any], history: list[Message], *settings: Any
    ) -> AsyncIterator[tuple[Any, Any, Any]]:
        text, files = said.get("text") or "", said.get("files") or []
        if not text.strip() and not files:
            yield gr.skip(), gr.skip(), gr.skip()
            return
        history = [*history, *asked(text, files)]
        heard = Heard()
        yield _box(is_busy=True), [*history, _answer(_WAITING)], gr.skip()
        try:
            body = body_of(card.id, history, *settings, read=lambda path: read_upload(path, upload_folder()))
            yield gr.skip(), gr.skip(), curl_html(_curl(body, url, needs_key=needs_key))
            async for part in visits.api.chat(visits.key_of(request), body):
                heard.reasoning += part.reasoning
                heard.text += part.text
                yield gr.skip(), [*history, *heard.messages()], gr.skip()
            yield _box(is_busy=False), [*history, *(heard.messages() or [_answer("(It said nothing.)")])], gr.skip()
        except (ApiError, ValueError) as error:
            told = ApiError(400, str(error)) if isinstance(error, ValueError) else error
            # What was written is there to be sent again.
            yield (
                _box(is_busy=False, value=said),
                [*history[: -len(asked(text, files))], *heard.messages()],
                error_html(told),
            )

    inputs = [box, shown, system, temperature, max_tokens, schema, tools]
    sending = box.submit(
        answer, inputs, [box, shown, beside], show_progress="hidden", concurrency_limit=None, api_visibility="private"
    )
    box.stop(
        lambda history: (_box(is_busy=False), without_waiting(history)),
        [shown],
        [box, shown],
        cancels=[sending],
        api_visibility="private",
    )
    for one, button in zip(examples, buttons, strict=True):
        button.click(lambda one=one: _begun(one), outputs=[box, shown, system], api_visibility="private")


class Heard:
    """What of an answer is there by now."""

    def __init__(self) -> None:
        self.text = ""
        self.reasoning = ""

    def messages(self) -> list[Message]:
        """Its thoughts are folded, and open while there is nothing else."""
        found = []
        if self.reasoning:
            status = "done" if self.text else "pending"
            metadata = {"title": "Thinking", "status": status}
            found.append({"role": "assistant", "content": self.reasoning, "metadata": metadata})
        if self.text:
            found.append(_answer(self.text))
        return found


def _box(*, is_busy: bool, value: dict[str, Any] | None = None) -> Any:
    """Emptied, and with the button that stops the answer, once it is sent."""
    given = {"value": value or {"text": "", "files": []}} if is_busy or value else {}
    return gr.MultimodalTextbox(submit_btn=not is_busy, stop_btn=is_busy, **given)


def _answer(text: str) -> Message:
    return {"role": "assistant", "content": text}


def without_waiting(history: list[Message]) -> list[Message]:
    """What was stopped before its first word was no answer."""
    if history and history[-1]["role"] == "assistant" and _parts(history[-1]["content"], str) == _WAITING:
        return history[:-1]
    return history


def _examples(opened: Opened) -> list[CardExample]:
    """Conversations of the card, and its texts."""
    task = TASKS["text-generation"]
    return [one for one in examples_for(task, opened.details) if one.messages or one.body.get("inputs")]


def _begun(example: CardExample) -> tuple[Any, list[Message], str]:
    """The last message waits in the box."""
    messages = [dict(one) for one in example.messages if one["role"] != "system"]
    system = "\n".join(one["content"] for one in example.messages if one["role"] == "system")
    text = messages.pop()["content"] if messages else str(example.body.get("inputs", ""))
    return {"text": text, "files": []}, messages, system


def asked(text: str, files: Sequence[str]) -> list[Message]:
    """As Gradio shows it: a picture is a message of its own."""
    pictures = [{"role": "user", "content": {"path": file}} for file in files]
    return [*pictures, *([{"role": "user", "content": text}] if text.strip() else [])]


def _curl(body: dict[str, Any], url: str, *, needs_key: bool) -> str:
    """Pictures are files in it."""
    names: dict[str, str] = {}
    for message in body["messages"]:
        for part in message["content"] if isinstance(message["content"], list) else []:
            if part["type"] == "image_url":
                names[part["image_url"]["url"].partition(",")[2]] = f"picture-{len(names) + 1}.png"
    options = ["-N", *([KEY_OPTION] if needs_key else [])]
    return command(TASKS["text-generation"], body, f"{url}/v1/chat/completions", names=names, options=options)


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
        if (message.get("metadata") or {}).get("title"):
            continue  # its thoughts: models are not told what they thought before
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
    path = str(content.get("path") or content["file"]["path"])
    media_type = mimetypes.guess_type(path)[0] or "image/png"
    return [{"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{read(path)}"}}]


def _as_list(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _json(text: str, label: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{label}: this is not JSON ({error}).") from None
