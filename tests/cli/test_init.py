"""`pipeserve init`: what it writes is right, and what is there is not lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.catalog import read_catalog
from app.cli import cli


def init(*arguments: str, answers: list[str] | None = None) -> Result:
    text = None if answers is None else "".join(f"{answer}\n" for answer in answers)
    return CliRunner().invoke(cli, ["init", *arguments], input=text)


def test_answers_become_entries(tmp_path: Path) -> None:
    """A task by name, by alias or by number; its usual model where none is said; what is no task is asked again."""
    path = tmp_path / "models.yaml"
    done = init(str(path), answers=["fill-mask", "", "sentiment-analysis", "acme/x", "nerr", "ner", "", "", "-1"])
    assert done.exit_code == 0, done.output
    assert 'there is no task "nerr" (did you mean "ner"?)' in done.output
    words, reviews, entities = read_catalog(path).models
    assert (words.tasks, words.model) == (("fill-mask",), "distilbert/distilroberta-base")
    assert (reviews.tasks, reviews.model, reviews.keep_alive_s) == (("text-classification",), "acme/x", -1)
    assert entities.tasks == ("token-classification",)


def test_options_are_not_asked_for(tmp_path: Path) -> None:
    """A folder with a name that YAML would read in another way is quoted."""
    path, folder = tmp_path / "models.yaml", tmp_path / "a{b"
    folder.mkdir()
    assert init(str(path), "--task", "ner", "--model", "acme/x", "--model", str(folder)).exit_code == 0
    assert [one.model for one in read_catalog(path).models][1:] == ["acme/x", str(folder)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--task", "sentiment"], "did you mean"),
        (["--model", "acme/my model"], "cannot be an id"),
        (["--model", "acme/x", "--model", "acme/x"], "acme/x"),
    ],
)
def test_what_would_be_wrong_is_not_written(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    """The sentence is that of `pipeserve check`."""
    path = tmp_path / "models.yaml"
    done = init(str(path), *arguments)
    assert done.exit_code != 0
    assert sentence in done.output
    assert list(tmp_path.iterdir()) == []


def test_file_that_is_there_stays(tmp_path: Path) -> None:
    """Unless it is forced."""
    path = tmp_path / "models.yaml"
    path.write_text("mine")
    assert "--force" in init(str(path), "--model", "acme/x").output
    assert path.read_text() == "mine"
    assert init(str(path), "--model", "acme/x", "--force").exit_code == 0
    assert read_catalog(path).models[0].model == "acme/x"
