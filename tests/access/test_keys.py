"""What a key allows."""

from __future__ import annotations

import pytest

from app.access.keys import (
    INFER,
    METRICS,
    SECRET_PREFIX,
    Key,
    digest_of,
    keys_of_variable,
    new_secret,
    short_secrets,
)


def key(**values: object) -> Key:
    return Key(name="k", digest=bytes(32), **values)  # type: ignore[arg-type]


def test_secrets_are_random_and_say_whose_they_are() -> None:
    """32 random bytes, of which nothing but their hash is stored."""
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(secret.startswith(SECRET_PREFIX) and len(secret) >= len(SECRET_PREFIX) + 43 for secret in made)


def test_keys_of_the_variable_may_infer_and_read_metrics() -> None:
    """Each once, spaces and empty parts aside; none of them may unload a model."""
    keys = keys_of_variable(" first-secret , second-secret,,first-secret")
    assert [one.name for one in keys] == ["env-1", "env-2"]
    assert keys[0].digest == digest_of(b"first-secret")
    assert all(one.scopes == {INFER, METRICS} for one in keys)
    assert keys_of_variable("") == keys_of_variable(" , ") == ()


def test_short_secrets_are_told_by_name() -> None:
    """Never by what they are."""
    assert short_secrets(f"hunter2,{'x' * 40}") == ["env-1"]


def test_key_shows_no_hash() -> None:
    """Whatever is printed or logged of it."""
    assert "digest" not in repr(key()) and "x00" not in repr(key())


@pytest.mark.parametrize(
    ("patterns", "names", "may"),
    [
        ((), ("any",), True),
        (("acme/*",), ("acme/reviews",), True),
        (("acme/*",), ("other/reviews",), False),
        (("rev",), ("acme/reviews", "rev"), True),
        (("a", "b"), ("b",), True),
        (("ACME/*",), ("acme/reviews",), False),
    ],
)
def test_models_are_matched_by_id_and_alias(patterns: tuple[str, ...], names: tuple[str, ...], may: bool) -> None:
    """As shells match names, capital letters told apart."""
    assert key(models=patterns).may_use(names) is may


@pytest.mark.parametrize(
    ("tasks", "task", "served", "may"),
    [
        ((), "fill-mask", ("fill-mask",), True),
        (("fill-mask",), "fill-mask", ("fill-mask",), True),
        (("fill-mask",), "text-classification", ("text-classification", "fill-mask"), False),
        (("text-generation",), "completion", ("text-generation",), True),
        (("image-to-text",), "completion", ("image-text-to-text", "image-to-text"), False),
        (("automatic-speech-recognition",), "transcription", ("automatic-speech-recognition",), True),
        (("text-to-audio",), "speech", ("text-to-audio",), True),
        (("fill-mask",), "tokenize", ("fill-mask",), True),
        (("fill-mask",), "tokenize", ("text-classification",), False),
        (("custom",), "custom", ("custom",), True),
        (("fill-mask",), "custom", ("custom",), False),
    ],
)
def test_tasks_of_other_dialects_go_with_those_of_the_model(
    tasks: tuple[str, ...], task: str, served: tuple[str, ...], may: bool
) -> None:
    """A chat needs a task that generates, a transcription one that recognises; tokenizing any of the model's."""
    assert key(tasks=tasks).may_do(task, served) is may
