"""The table of `pipeserve tune` on a model's page: what else could compute it here, and what it would cost."""

from __future__ import annotations

from html import escape

from app.api.schemas import TunedCandidate, Tuning
from app.ui.words import bytes_text, seconds_text


def tuning_html(tuning: Tuning) -> str:
    rows = "".join(_row(one, tuning) for one in tuning.candidates)
    bound = "" if tuning.bound is None else f"; at most {tuning.bound:.3g} from torch in float32 was allowed"
    used = (
        "The model is computed by it."
        if tuning.is_used
        else "Say <code>backend: auto</code> in its entry to have it computed so."
    )
    table = (
        '<div class="ps-wide"><table class="ps-tuned"><thead><tr><th scope="col">Variant</th>'
        f"<th>× plain</th>{''.join(f'<th>{escape(shape)}</th>' for shape in _shapes(tuning))}"
        f"<th>Memory</th><th>Load</th><th>Difference</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
    return (
        f'{table if rows else ""}<p class="ps-note">Chosen on {escape(tuning.device)}, {escape(tuning.at[:10])}:'
        f" <b>{escape(tuning.chosen)}</b>{bound}. {used}</p>"
    )


def _shapes(tuning: Tuning) -> list[str]:
    """The smallest and the largest that were measured: the others are between them."""
    shapes = list(dict.fromkeys(shape for one in tuning.candidates for shape in one.latency_s))
    return shapes if len(shapes) < 3 else [shapes[0], shapes[-1]]


def _row(one: TunedCandidate, tuning: Tuning) -> str:
    is_chosen = one.name == tuning.chosen
    mark = ' <span class="ps-tag">chosen</span>' if is_chosen else ""
    name = f'<th scope="row">{escape(one.name)}{mark}</th>'
    if one.problem is not None:
        columns = 4 + len(_shapes(tuning))
        return f'<tr class="ps-out">{name}<td colspan="{columns}" class="ps-why">{escape(one.problem)}</td></tr>'
    cells = [
        "" if one.speedup is None else f"{one.speedup:.2f}",
        *(_speed(one, shape) for shape in _shapes(tuning)),
        "" if one.memory_bytes is None else bytes_text(one.memory_bytes),
        "" if not one.load_s else seconds_text(min(one.load_s)),
        _difference(one),
    ]
    style = "ps-chosen" if is_chosen else "" if one.is_allowed else "ps-out"
    return f'<tr class="{style}">{name}{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _speed(one: TunedCandidate, shape: str) -> str:
    """Of a request of one input its time, of more what a second computes."""
    if shape not in one.latency_s:
        return "–"
    if shape.startswith("1 "):
        return seconds_text(one.latency_s[shape])
    return f"{one.inputs_per_s[shape]:.3g}/s"


def _difference(one: TunedCandidate) -> str:
    found = [value for value in (one.difference, one.cosine_distance) if value is not None]
    return "" if not found else "0" if max(found) < 1e-12 else f"{max(found):.1e}"
