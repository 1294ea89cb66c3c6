"""The catalogue's HTML, of cards as `/v1/models` has them."""

from __future__ import annotations

from typing import Any

import pytest

from app.api.schemas import LoadProgress, ModelCard
from app.ui.catalogue import Shown, cards_html, filters_html
from app.ui.owners import source_of
from app.ui.words import bytes_text, count_text, seconds_text, since_text

NOTHING = Shown(now=1000.0, loads={})


def card(name: str, **changes: Any) -> ModelCard:
    known: dict[str, Any] = {
        "id": name, "created": 0, "owned_by": "x", "aliases": [], "model": name, "root": name, "parent": None,
        "revision": None, "tasks": ["text-classification"], "implied_tasks": [], "state": "unloaded", "reason": None,
        "device": None, "dtype": None, "backend": "torch", "tuned": None, "memory_bytes": None,
        "num_parameters": None, "max_length": None, "embedding_size": None, "largest_difference": None,
        "loaded_at": None, "last_used_at": None, "unloads_at": None, "recent_requests": 0, "in_flight": 0,
        "queued": 0, "replicas": 0, "pinned": False, "keep_alive_s": 300.0, "parameters": {},
    }  # fmt: skip
    return ModelCard(**{**known, **changes})


def test_buttons_are_for_administrators() -> None:
    """Others would only be refused."""
    for_guests = Shown(now=0, loads={}, may_administer=False)
    for state in ("unloaded", "ready", "failed"):
        assert "data-action=" in cards_html([card("a", state=state)], NOTHING)
        assert "data-action=" not in cards_html([card("a", state=state)], for_guests)


def test_card_says_what_is_known_of_a_model() -> None:
    """State, device, memory, size, last use, what it does, and what can be done with it."""
    html = cards_html(
        [
            card(
                "acme/big", state="ready", device="cuda:0", memory_bytes=438_000_000, num_parameters=109_482_240,
                last_used_at=700.0, recent_requests=1200, pinned=True,
                implied_tasks=["text-ranking", "sentence-similarity"],
            )
        ],
        NOTHING,
    )  # fmt: skip
    facts = ("Ready", "cuda:0", "438 MB", "109 M parameters", "used 5 min ago", "1.2 k requests in 6 h", "pinned")
    for told in (*facts, "text classification"):
        assert told in html
    assert "+1" in html and 'data-action="unload"' in html and 'href="/ui/model?id=acme/big"' in html


def test_cards_stand_under_the_name_of_their_modality() -> None:
    """In each as declared; one modality needs no name."""
    texts = [card("b"), card("a")]
    html = cards_html([texts[0], card("p", tasks=["depth-estimation"]), texts[1]], NOTHING)
    order = ["Vision</h2>", 'data-name="p"', "Language</h2>", 'data-name="b"', 'data-name="a"']
    assert order == sorted(order, key=html.index)
    assert "ps-group" not in cards_html(texts, NOTHING)


def test_pin_is_a_button_that_says_whether_it_is_pressed() -> None:
    """Of what is loaded, or pinned before it is; and only for who may press it."""
    loaded = cards_html([card("a", state="ready")], NOTHING)
    assert 'data-action="pin"' in loaded and 'aria-pressed="false" aria-label="Pin a"' in loaded
    pinned = cards_html([card("a", pinned=True)], NOTHING)
    assert 'data-action="unpin"' in pinned and 'aria-pressed="true"' in pinned and 'data-action="load"' in pinned
    assert 'data-action="pin"' not in cards_html([card("a")], NOTHING)
    assert "data-action" not in cards_html([card("a", state="ready")], Shown(now=0, loads={}, may_administer=False))


def test_names_and_reasons_are_text() -> None:
    """Whatever an entry is called."""
    html = cards_html([card('"><img src=x>', state="failed", reason="<b>broken</b>")], NOTHING)
    assert "<img" not in html and "<b>broken" not in html and "Try again" in html


def test_load_is_drawn_as_far_as_it_is() -> None:
    """In percent where it can be counted; one that another visitor began, without."""
    counted = Shown(now=0, loads={"a": LoadProgress(phase="download", done=30, total=120)})
    assert 'aria-valuenow="25"' in cards_html([card("a", state="loading")], counted)
    uncounted = cards_html([card("a", state="loading")], NOTHING)
    assert "ps-unknown" in uncounted and "data-action" not in uncounted


def test_adapters_are_on_their_models_page() -> None:
    """They are not counted as models."""
    html = cards_html([card("base"), card("sql", parent="base")], NOTHING)
    assert html.count("<article") == 1


def test_no_model_is_told() -> None:
    """With what to do about it."""
    assert "models.yaml" in cards_html([], NOTHING)


def test_filters_count_what_there_is() -> None:
    """A modality or task that no model has is not offered."""
    html = filters_html([card("a"), card("b", tasks=["fill-mask"]), card("c", tasks=["object-detection"])])
    assert 'data-value="text"' in html and "<span>Language</span><small>2</small>" in html
    assert 'data-value="image"' in html and 'data-value="audio"' not in html
    assert 'data-value="fill-mask"' in html and 'data-value="translation"' not in html


@pytest.mark.parametrize(
    ("model", "source"),
    [
        ("google-bert/bert-base-cased", "official"),
        ("someone/bert", "community"),
        ("my-model", "local"),
        ("./x", "local"),
    ],
)
def test_publishers_are_told_apart(model: str, source: str) -> None:
    """A folder is whoever runs the server."""
    assert source_of(model) == source


def test_publishers_are_marked() -> None:
    """A folder of this machine is nobody's publication."""
    found = [cards_html([card(name)], NOTHING) for name in ("google-bert/bert-base-cased", "someone/bert", "mine")]
    assert ["ps-official" in html for html in found] == [True, False, False]
    assert ["ps-community" in html for html in found] == [False, True, False]


def test_numbers_are_as_people_read_them() -> None:
    """Three digits, and a unit."""
    assert [bytes_text(one) for one in (12, 438_000_000, 4_380_000_000)] == ["12 B", "438 MB", "4.38 GB"]
    assert [count_text(one) for one in (7, 22_713_216, 596_000_000, 8e9)] == ["7", "22.7 M", "596 M", "8 B"]
    assert [since_text(one) for one in (5, 300, 7200, 200_000)] == ["just now", "5 min ago", "2 h ago", "2 days ago"]
    assert [seconds_text(one) for one in (0.00042, 0.0182, 0.9999, 1.24, 12, 150)] == [
        "0.42 ms", "18 ms", "1 s", "1.2 s", "12 s", "2.5 min"
    ]  # fmt: skip
