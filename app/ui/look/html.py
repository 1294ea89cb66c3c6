"""HTML of ours in a page of Gradio's."""

from __future__ import annotations

from typing import Any

import gradio as gr


def html(text: str = "", *, js_on_load: str | None = None, **options: Any) -> gr.HTML:
    """As it stands, without Gradio's styles for text."""
    return gr.HTML(text, apply_default_css=False, js_on_load=js_on_load, **options)


def beat(every_s: float, *, at_once: bool = False) -> gr.HTML:
    """Something that is clicked every so often by the browser, as long as its tab is looked at, and when it is again:
    `beat(2).click(refresh, ...)`. (Gradio's timer goes on in tabs that nobody sees.)"""
    return html(js_on_load=_BEAT % (every_s * 1000) + ("setTimeout(beat);" if at_once else ""), elem_classes="ps-beat")


_BEAT = """
const beat = () => {
  if (!element.isConnected) {
    clearInterval(timer);
    document.removeEventListener('visibilitychange', beat);
  } else if (!document.hidden) trigger('click');
};
const timer = setInterval(beat, %d);
document.addEventListener('visibilitychange', beat);
"""
