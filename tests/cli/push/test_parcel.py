"""What of a folder goes to the Hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.push.parcel import Parcel, pack
from app.cli.push.subject import Subject
from app.errors import ModelFailed
from tests.cli.push.folders import write, write_model

TOKEN = b"hf_" + b"abcDEF0123" * 4


def packed(folder: Path, *excluded: str, allow_pickle: bool = False) -> Parcel:
    return pack(Subject(name="reviews", folder=folder), excluded=excluded, allow_pickle=allow_pickle)


def paths(parcel: Parcel) -> list[str]:
    return [item.path for item in parcel.items]


def test_what_is_of_the_model_goes(tmp_path: Path) -> None:
    """Folders too, and what Git needs for large files; with its size."""
    folder = write_model(tmp_path / "m", __gitattributes=b"*", onnx_in_model__onnx=b"net", tokenizer__json=b"{}")
    parcel = packed(folder)
    assert paths(parcel) == [".gitattributes", "config.json", "model.safetensors", "onnx/model.onnx", "tokenizer.json"]
    assert parcel.num_bytes == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert parcel.left_out == ()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (".env", "hidden"),
        (".git/config", "hidden"),
        (".cache/huggingface/token", "hidden"),
        ("prod.env", "secret"),
        ("token", "secret"),
        ("deploy/ID_RSA", "secret"),
        ("server.pem", "secret"),
        ("__pycache__/handler.cpython-311.pyc", "cache"),
        ("runs/events.out.tfevents.1", "logs of the training"),
        ("checkpoint-500/model.safetensors", "checkpoint"),
        ("optimizer.pt", "state of the training"),
        ("rng_state_0.pth", "state of the training"),
        ("pytorch_model.bin", "a pickle, beside safetensors"),
        ("notes/draft.md", "excluded"),
    ],
)
def test_what_is_not_stays_and_is_told(tmp_path: Path, path: str, why: str) -> None:
    """Each with its reason."""
    write(write_model(tmp_path / "m") / path, b"x")
    parcel = packed(tmp_path / "m", "notes/*")
    assert paths(parcel) == ["config.json", "model.safetensors"]
    ((left),) = parcel.left_out
    assert (left.path, why in left.why) == (path, True), left


def test_words_of_secrets_in_names_of_a_model_are_none(tmp_path: Path) -> None:
    """Tokens of a vocabulary are no keys."""
    names = ("added_tokens.json", "special_tokens_map.json", "tokenizer_config.json", "tokenization_custom.py")
    for name in names:
        write(write_model(tmp_path / "m") / name, b"{}")
    assert set(names) < set(paths(packed(tmp_path / "m")))


def test_pickled_weights_are_refused_unless_asked_for(tmp_path: Path) -> None:
    """Where no safetensors stand beside them; in `openvino/` a .bin is no pickle."""
    folder = write_model(tmp_path / "m", openvino_in_openvino_model__xml=b"<>", openvino_in_openvino_model__bin=b"0")
    assert "openvino/openvino_model.bin" in paths(packed(folder))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelFailed, match=r"pytorch_model\.bin is a pickle.* --allow-pickle"):
        packed(folder)
    assert "pytorch_model.bin" in paths(packed(folder, allow_pickle=True))


@pytest.mark.parametrize("content", [b'{"hub_token": "' + TOKEN + b'"}', b"-----BEGIN OPENSSH PRIVATE KEY-----"])
def test_file_that_holds_a_token_is_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever its name; it can be left out."""
    folder = write_model(tmp_path / "m", trainer_state__json=content)
    with pytest.raises(ModelFailed, match=r"trainer_state\.json holds what looks like a token .*--exclude"):
        packed(folder)
    assert "trainer_state.json" not in paths(packed(folder, "trainer_state.json"))


def test_links_to_files_go_and_links_to_folders_or_nothing_stay(tmp_path: Path) -> None:
    """The Hub's cache is made of links."""
    folder = write_model(tmp_path / "m")
    (folder / "linked.txt").symlink_to(write(tmp_path / "blob", b"text"))
    (folder / "gone.txt").symlink_to(tmp_path / "nothing")
    (folder / "elsewhere").symlink_to(write(tmp_path / "far" / "a.txt", b"far").parent)
    parcel = packed(folder)
    assert paths(parcel) == ["config.json", "linked.txt", "model.safetensors"]
    assert [left.path for left in parcel.left_out] == ["elsewhere", "gone.txt"]
