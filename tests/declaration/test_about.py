"""What a model's files tell a person."""

from __future__ import annotations

import json
from pathlib import Path

from app.catalog import ModelSpec, cached_files
from app.declaration.about import About, find_media, read_about

CARD = "---\nlicense: apache-2.0\nbase_model: acme/base\ndate: 2024-01-01\n---\n# Title\n\nText.\n"
CONFIG = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "num_hidden_layers": 6,
    "max_position_embeddings": 512,
    "id2label": {"0": "BAD", "1": "GOOD"},
}


def about(folder: Path) -> About:
    return read_about(cached_files(ModelSpec(id="m", model=str(folder), tasks=("text-classification",))))


def model(folder: Path, *, card: str = CARD, config: object = CONFIG) -> Path:
    (folder / "onnx").mkdir()
    (folder / "README.md").write_text(card)
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    (folder / "onnx" / "model.onnx").write_bytes(b"12345")
    (folder / ".secret").write_text("x")
    return folder


def test_card_files_and_figures_are_read(tmp_path: Path) -> None:
    """The front matter apart from the text; sizes of files; one name for each figure; labels that mean something."""
    found = about(model(tmp_path))
    assert found.card == "# Title\n\nText." and found.card_data["base_model"] == "acme/base"
    assert found.card_data["date"] == "2024-01-01"  # as text: JSON has no dates
    assert [(file.path, file.size) for file in found.files][-1] == ("onnx/model.onnx", 5)
    assert ".secret" not in {file.path for file in found.files}
    assert found.config["layers"] == 6 and found.config["context"] == 512
    assert found.config["architecture"] == "BertForSequenceClassification"
    assert found.labels == ["BAD", "GOOD"] and found.problems == []


def test_figures_of_a_models_text_part_count(tmp_path: Path) -> None:
    """Models of several media keep them one level down."""
    assert about(model(tmp_path, config={"text_config": {"num_hidden_layers": 3}})).config["layers"] == 3


def test_labels_without_a_meaning_are_left_out(tmp_path: Path) -> None:
    """LABEL_0 says nothing."""
    assert about(model(tmp_path, config={"id2label": {"0": "LABEL_0", "1": "LABEL_1"}})).labels == []


def test_broken_files_are_told_and_harm_nothing(tmp_path: Path) -> None:
    """People write cards by hand."""
    found = about(model(tmp_path, card="---\n: [\n---\nText", config="{"))
    assert found.card == "Text" and found.card_data == {} and "config.json" in found.problems[0]


def test_model_that_is_not_on_this_disk_has_nothing(tmp_path: Path) -> None:
    """And is no error."""
    assert about(tmp_path / "none") == About()


def test_media_of_the_folder_are_found(tmp_path: Path) -> None:
    """Pictures, sounds and films that lie in it; nothing else, and nothing beside it."""
    folder = tmp_path / "model"
    (folder / "samples" / ".hidden").mkdir(parents=True)
    for name in ("config.json", "samples/cat.png", "a.WAV", "page.html", "drawing.svg", "samples/.hidden/cat.png"):
        (folder / name).write_text("{}")
    (tmp_path / "secret.png").write_text("x")

    def find(name: str) -> Path | None:
        return path if (path := folder / name).is_file() else None

    assert find_media(find, "samples/cat.png") == (folder / "samples/cat.png", "image/png")
    assert find_media(find, "a.WAV") == (folder / "a.WAV", "audio/wav")
    for path in ("../secret.png", str(tmp_path / "secret.png"), "samples/../a.WAV", "page.html", "drawing.svg"):
        assert find_media(find, path) is None, path
    for path in ("config.json", "samples", "samples/.hidden/cat.png", "gone.png", "", "."):
        assert find_media(find, path) is None, path
    assert find_media(lambda name: None, "samples/cat.png") is None
