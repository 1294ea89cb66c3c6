"""Everything that a model can be asked, a tab for each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import gradio as gr

from app.ui.look.html import html
from app.ui.try_it.chat import CHAT_TASKS, WITH_PICTURES, chat
from app.ui.try_it.opened import CHAT, Opened, tasks_of
from app.ui.try_it.widget import try_it

if TYPE_CHECKING:
    from app.ui.pages import Visits


def try_each(visits: Visits, opened: Opened, *, url: str, needs_key: bool) -> None:
    """Within a Blocks context. url: of the server, as the visitor's browser knows it."""
    tasks = tasks_of(opened.details.model)
    forms: list[tuple[str, str, Callable[[], None]]] = [
        (
            task.name,
            task.name.replace("-", " ").capitalize(),
            partial(try_it, visits, opened, task, url=url, needs_key=needs_key),
        )
        for task in tasks
    ]
    names = {task.name for task in tasks}
    if names & CHAT_TASKS:
        with_pictures = bool(names & WITH_PICTURES)
        talk = partial(chat, visits, opened, url=url, needs_key=needs_key, with_pictures=with_pictures)
        forms.insert(0, (CHAT, "Chat", talk))
    if not forms:
        html('<p class="ps-note">What this model does is not known before its first load.</p>')
    elif len(forms) == 1:
        forms[0][2]()
    else:
        with gr.Tabs(selected=opened.task if opened.task in {name for name, _, _ in forms} else forms[0][0]):
            for name, title, form in forms:
                with gr.Tab(title, id=name):
                    form()
