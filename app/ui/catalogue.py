"""The catalogue: every declared model as a card. Searching and filtering happen in the browser (`look/pages.js`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

from app.api.schemas import LoadProgress, ModelCard
from app.tasks.registry import TASKS
from app.ui.look import ICONS
from app.ui.owners import COMMUNITY, OFFICIAL, source_of
from app.ui.told import PATH
from app.ui.words import bytes_text, count_text, since_text

MODALITIES = {
    "multimodal": "Multimodal",
    "image": "Vision",
    "video": "Video",
    "text": "Language",
    "audio": "Audio",
    "other": "Not known yet",
}
"""In the order in which they are shown."""
STATES = {
    "ready": "Ready",
    "loading": "Loading",
    "unloading": "Unloading",
    "unloaded": "Not loaded",
    "unresolved": "Not known yet",
    "failed": "Failed",
}

ACT = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-action]');
  if (!button || button.disabled) return;
  button.disabled = true;  // until what it does is shown, or is refused, which changes nothing here
  setTimeout(() => { button.disabled = false; }, 2000);
  trigger('click', {action: button.dataset.action, model: button.dataset.model});
});
"""
"""Of a component with such buttons: tells Gradio which was pressed."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the page knows beside the models. now: unix time. loads: of models that this process had loaded, by id.
    may_administer: whether there are buttons to load and unload."""

    now: float
    loads: Mapping[str, LoadProgress]
    may_administer: bool = True


def modality_of(card: ModelCard) -> str:
    task = TASKS.get(card.tasks[0]) if card.tasks else None
    return "other" if task is None else task.modality


def model_url(model: str) -> str:
    return f"{PATH}/model?id={quote(model, safe='/')}"


def filters_html(cards: Sequence[ModelCard]) -> str:
    """The column beside the cards: what they can be narrowed down to, with how many there are of each."""
    modalities = Counter(map(modality_of, cards))
    tasks = Counter(task for card in cards for task in [*card.tasks, *card.implied_tasks])
    sources = Counter(source_of(card.model) for card in cards)
    known = [(one, label, modalities[one]) for one, label in MODALITIES.items() if modalities[one]]
    named = [(task, task.replace("-", " "), tasks[task]) for task in TASKS if tasks[task]]
    owners = [(one, one.capitalize(), sources[one]) for one in ("official", "community", "local") if sources[one]]
    states = [("ready", "Ready", 0), ("unloaded", "Not loaded", 0), ("failed", "Failed", 0)]
    return (
        f'<div class="ps-search">{ICONS["search"]}<input id="ps-search" type="search" autocomplete="off"'
        ' placeholder="Search models" aria-label="Search models"><kbd>/</kbd></div>'
        + _choices("modality", "Modality", known, icons=True)
        + _choices("task", "Task", named)
        + _choices("state", "State", states)
        + (_choices("source", "Published by", owners) if len(owners) > 1 else "")
    )


def _choices(name: str, title: str, rows: Iterable[tuple[str, str, int]], *, icons: bool = False) -> str:
    buttons = "".join(
        f'<button type="button" class="ps-choice" data-filter="{name}" data-value="{escape(value)}"'
        f' aria-pressed="false">{ICONS.get(value, "") if icons else ""}<span>{escape(label)}</span>'
        + (f"<small>{count}</small>" if count else "")
        + "</button>"
        for value, label, count in rows
    )
    return f'<section class="ps-choices"><h2>{title}</h2><div>{buttons}</div></section>' if buttons else ""


def cards_html(cards: Sequence[ModelCard], shown: Shown) -> str:
    """Adapters stand on their model's page."""
    models = [card for card in cards if card.parent is None]
    if not models:
        return (
            '<div class="ps-empty"><h2>No models yet</h2><p>Declare some in <code>models.yaml</code>, then reload it'
            " with <code>POST /v1/models/reload</code> or SIGHUP.</p></div>"
        )
    ready = sum(card.state == "ready" for card in models)
    memory = sum(card.memory_bytes or 0 for card in models)
    used = f" · {bytes_text(memory)} in use" if memory else ""
    head = (
        f'<header class="ps-count"><h1>Models</h1><p><b id="ps-shown">{len(models)}</b> of {len(models)} ·'
        f' {ready} ready{used}</p><label class="ps-sort">Sort <select id="ps-sort">'
        '<option value="">by modality</option><option value="recent">trending</option>'
        '<option value="used">recently used</option>'
        '<option value="name">by name</option><option value="memory">by memory</option></select></label></header>'
    )
    grid = "".join(_groups(models, shown))
    none = (
        '<div class="ps-empty" id="ps-none" hidden><h2>No model fits</h2><p>Try another word, or fewer filters.</p>'
        '<button type="button" class="ps-button" data-clear>Clear filters</button></div>'
    )
    return f'{head}<div class="ps-grid">{grid}</div>{none}'


def _groups(models: Sequence[ModelCard], shown: Shown) -> Iterator[str]:
    """The cards of each modality under its name, unless there is but one; in each as declared."""
    by_modality: dict[str, list[str]] = {modality: [] for modality in MODALITIES}
    for index, card in enumerate(models):
        by_modality[modality_of(card)].append(_card(card, index, shown))
    has_names = sum(map(bool, by_modality.values())) > 1
    for modality, cards in by_modality.items():
        if cards and has_names:
            yield f'<h2 class="ps-group" data-modality="{modality}">{MODALITIES[modality]}</h2>'
        yield from cards


def _card(card: ModelCard, index: int, shown: Shown) -> str:
    owner, slash, name = card.id.rpartition("/")
    tasks = [*card.tasks, *card.implied_tasks]
    modality = modality_of(card)
    words = " ".join([card.id, card.model, *card.aliases, *tasks, modality, MODALITIES[modality]]).lower()
    return (
        f'<article class="ps-card" data-words="{escape(words)}" data-modality="{modality}"'
        f' data-task="{escape(" ".join(tasks))}" data-state="{card.state}" data-source="{source_of(card.model)}"'
        f' data-index="{index}" data-used="{card.last_used_at or 0}" data-memory="{card.memory_bytes or 0}"'
        f' data-recent="{card.recent_requests}"'
        f' data-name="{escape(card.id.lower())}">'
        f'<a class="ps-card-link" href="{model_url(card.id)}"><span class="ps-tile ps-{modality}">'
        f'{ICONS.get(modality, ICONS["text"])}</span><span class="ps-title"><span class="ps-owner">'
        f"{escape(owner + slash)}</span><b>{escape(name)}</b>{publisher_mark(card)}</span></a>"
        f'<p class="ps-tags">{task_tags(card, most=2)}</p>'
        f'<p class="ps-facts">{state_mark(card)}{_facts(card, shown.now)}</p>'
        f"{_reason(card)}{progress_html(card, shown)}"
        f'<div class="ps-actions">{actions(card, shown)}</div></article>'
    )


def publisher_mark(card: ModelCard) -> str:
    source = source_of(card.model)
    if source == COMMUNITY:
        return f'<span class="ps-community" title="Published by a third party">{ICONS["people"]}</span>'
    if source != OFFICIAL:
        return ""
    return f'<span class="ps-official" title="Published by the organisation that made it">{ICONS["check"]}</span>'


def task_tags(card: ModelCard, *, most: int = 99) -> str:
    tasks = [*card.tasks, *card.implied_tasks]
    more = f'<span class="ps-tag ps-more">+{len(tasks) - most}</span>' if len(tasks) > most else ""
    return "".join(f'<span class="ps-tag">{escape(task.replace("-", " "))}</span>' for task in tasks[:most]) + more


def state_mark(card: ModelCard) -> str:
    return f'<span class="ps-state ps-is-{card.state}">{STATES.get(card.state, card.state)}</span>'


def _facts(card: ModelCard, now: float) -> str:
    facts = []
    if card.device is not None:
        facts.append(card.device)
    if card.memory_bytes:
        facts.append(bytes_text(card.memory_bytes))
    if card.num_parameters:
        facts.append(f"{count_text(card.num_parameters)} parameters")
    if card.recent_requests:
        facts.append(f"{count_text(card.recent_requests)} request{'s' if card.recent_requests > 1 else ''} in 6 h")
    if card.in_flight:
        facts.append(f"{card.in_flight} running")
    elif card.last_used_at is not None:
        facts.append(f"used {since_text(now - card.last_used_at)}")
    if card.pinned:
        facts.append("pinned")
    return "".join(f"<span>{escape(fact)}</span>" for fact in facts)


def _reason(card: ModelCard) -> str:
    return "" if card.reason is None else f'<p class="ps-reason">{escape(card.reason)}</p>'


def progress_html(card: ModelCard, shown: Shown) -> str:
    progress = shown.loads.get(card.id)
    if progress is None and card.state != "loading":
        return ""
    if progress is None or not progress.total:
        label = "Loading" if progress is None else progress.phase.capitalize()
        return f'<div class="ps-progress ps-unknown" role="progressbar" aria-label="{escape(label)}"><i></i></div>'
    share = min(100, round(100 * progress.done / progress.total))
    label = f"{progress.phase.capitalize()} {share} %"
    return (
        f'<div class="ps-progress" role="progressbar" aria-valuenow="{share}" aria-valuemin="0" aria-valuemax="100"'
        f' aria-label="{escape(label)}" title="{escape(label)}"><i style="width:{share}%"></i></div>'
    )


def actions(card: ModelCard, shown: Shown) -> str:
    """What can be done to it now."""
    if not shown.may_administer or card.state in ("loading", "unloading"):
        return ""
    action, label = ("unload", "Unload") if card.state == "ready" else ("load", "Load")
    if card.state == "failed":
        label = "Try again"
    return (
        f"{_pin_button(card)}"
        f'<button type="button" class="ps-button" data-action="{action}" data-model="{escape(card.id)}"'
        f' aria-label="{label} {escape(card.id)}">{label}</button>'
    )


def _pin_button(card: ModelCard) -> str:
    """Of what is loaded, and of what is pinned before it is."""
    if card.parent is not None or not (card.state == "ready" or card.pinned):
        return ""
    action, title = ("unpin", "Keep it no longer than others") if card.pinned else ("pin", "Keep it loaded")
    return (
        f'<button type="button" class="ps-button ps-pin" data-action="{action}" data-model="{escape(card.id)}"'
        f' aria-pressed="{str(card.pinned).lower()}" aria-label="Pin {escape(card.id)}" title="{title}">'
        f"{ICONS['pin']}</button>"
    )
