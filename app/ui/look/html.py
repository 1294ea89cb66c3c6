"""HTML of ours in a page of Gradio's."""

from __future__ import annotations

from typing import Any

import gradio as gr


def html(text: str = "", *, js_on_load: str | None = None, **options: Any) -> gr.HTML:
    """As it stands, without Gradio's styles for text."""
    return gr.HTML(text, apply_default_css=False, js_on_load=js_on_load, **options)
