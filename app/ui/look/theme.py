"""Gradio's theme with fonts that are on the visitor's machine: its own would come from Google's."""

from __future__ import annotations

import gradio as gr

_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Noto Sans", "sans-serif")
_FONT_MONO = ("ui-monospace", "SF Mono", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")


def theme() -> gr.themes.Base:
    return gr.themes.Base(
        primary_hue="indigo",
        neutral_hue="zinc",
        radius_size="lg",
        font=list(_FONT),
        font_mono=list(_FONT_MONO),
    ).set(
        body_text_color_subdued="#71717a",
        body_text_color_subdued_dark="#a1a1aa",
        body_background_fill="#fafafa",
        body_background_fill_dark="#0b0b0f",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#15151b",
        background_fill_secondary="#f4f4f5",
        background_fill_secondary_dark="#1f1f27",
        border_color_primary="#e4e4e7",
        border_color_primary_dark="#2a2a33",
        block_background_fill="#ffffff",
        block_background_fill_dark="#15151b",
        block_border_width="1px",
        block_border_color="#e4e4e7",
        block_border_color_dark="#2a2a33",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_title_text_size="13px",
        block_title_text_weight="600",
        input_background_fill="#ffffff",
        input_background_fill_dark="#101016",
        input_border_color="#e4e4e7",
        input_border_color_dark="#2a2a33",
        color_accent="#4f46e5",
        button_primary_background_fill="#4f46e5",
        button_primary_background_fill_hover="#4338ca",
        button_primary_background_fill_dark="#4f46e5",
        button_primary_background_fill_hover_dark="#6366f1",
        button_primary_text_color="#ffffff",
        button_large_radius="11px",
        button_small_radius="9px",
    )
