"""What a model's files may hold to run code when the model is loaded: none of it runs unless the entry trusts it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from app.catalog import AdapterSpec
from app.errors import ModelFailed
from app.runtime.adapters import Adapters
from tests import models, tiny
from tests.runtime.compute import load
from tests.tiny.adapters import lora, save

CLASSIFICATION = "text-classification"


class Trap:
    """Makes a folder where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Is there if something ran."""
    return tmp_path / "it-ran"


@pytest.fixture
def classifier(models_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(models_dir / "sequence-classification", tmp_path / "model"))


def set_trap(file: Path, mark: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"weight": torch.zeros(2), "trap": Trap(mark)}, file)


def set_older_trap(file: Path, mark: Path) -> None:
    """As torch wrote before it wrote archives."""
    file.write_bytes(pickle.dumps({"trap": Trap(mark)}, protocol=2))


SetTrap = Callable[[Path, Path], None]
both_kinds = pytest.mark.parametrize("set_one", [set_trap, set_older_trap])


def code(mark: Path) -> str:
    return f"import os\nos.mkdir({str(mark)!r})\n"


def change(file: Path, **changes: Any) -> None:
    """Of a JSON file."""
    file.write_text(json.dumps({**(json.loads(file.read_text()) if file.exists() else {}), **changes}))


@both_kinds
def test_the_traps_work(set_one: SetTrap, tmp_path: Path, mark: Path) -> None:
    """Or no test here could fail."""
    set_one(tmp_path / "trap.bin", mark)
    if set_one is set_trap:
        torch.load(tmp_path / "trap.bin", weights_only=False)
    else:
        pickle.loads((tmp_path / "trap.bin").read_bytes())
    assert mark.exists()


@both_kinds
def test_pickled_weights_run_nothing(set_one: SetTrap, classifier: Path, mark: Path) -> None:
    """Refused by name, and where the entry allows them read without running anything."""
    (classifier / "model.safetensors").unlink()
    set_one(classifier / "pytorch_model.bin", mark)
    with pytest.raises(ModelFailed, match="allow_pickle: true"):
        load(classifier, CLASSIFICATION)
    with pytest.raises(ModelFailed, match="nothing but these is unpickled"):
        load(classifier, CLASSIFICATION, allow_pickle=True)
    assert not mark.exists()


@both_kinds
def test_pickles_by_another_name_run_nothing(set_one: SetTrap, classifier: Path, mark: Path) -> None:
    """A file is what it holds."""
    set_one(classifier / "model.safetensors", mark)
    for allows in (False, True):
        with pytest.raises(ModelFailed):
            load(classifier, CLASSIFICATION, allow_pickle=allows)
    assert not mark.exists()


def test_pickles_beside_safetensors_are_not_read(classifier: Path, mark: Path) -> None:
    """What training leaves, and weights in both forms."""
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "spm.pkl"):
        set_trap(classifier / name, mark)
    for allows in (False, True):
        load(classifier, CLASSIFICATION, allow_pickle=allows)
    assert not mark.exists()


def test_pickled_modules_of_sentence_transformers_run_nothing(models_dir: Path, tmp_path: Path, mark: Path) -> None:
    """Wherever `modules.json` says that one lies, but for other folders than the model's."""
    folder = models.build("sentence-encoder", tmp_path, dense=8)
    (folder / "2_Dense" / "model.safetensors").unlink()
    set_trap(folder / "2_Dense" / "pytorch_model.bin", mark)
    shutil.copytree(folder / "2_Dense", folder / "dense")
    modules = json.loads((folder / "modules.json").read_text())
    for path in ("2_Dense", "dense"):
        modules[2]["path"] = path
        (folder / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(ModelFailed, match="allow_pickle: true"):
            load(folder, "feature-extraction")
        with pytest.raises(ModelFailed, match="nothing but these is unpickled"):
            load(folder, "feature-extraction", allow_pickle=True)
    assert not mark.exists()
    for path in ("../elsewhere", str(tmp_path / "elsewhere")):
        modules[2]["path"] = path
        (folder / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(ModelFailed, match="out of the model's folder"):
            load(folder, "feature-extraction", allow_pickle=True)


def test_modules_of_ones_own_are_not_imported(tmp_path: Path, mark: Path) -> None:
    """sentence-transformers imports the class that `modules.json` names; here the names of its own are known."""
    folder = models.build("sentence-encoder", tmp_path)
    (folder / "own.py").write_text(code(mark))
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "own.Pooling"
    (folder / "modules.json").write_text(json.dumps(modules))
    load(folder, "feature-extraction")
    assert not mark.exists()


def test_a_pickled_vocoder_runs_nothing(tmp_path: Path, mark: Path) -> None:
    """In the model's folder `vocoder`, or in one of its own."""
    folder = tiny.build("speecht5", tmp_path)
    (folder / "vocoder" / "model.safetensors").unlink()
    set_trap(folder / "vocoder" / "pytorch_model.bin", mark)
    apart = str(shutil.copytree(folder / "vocoder", tmp_path / "apart"))
    for declared in ({}, {"vocoder": apart}):
        with pytest.raises(ModelFailed, match="allow_pickle: true"):
            load(folder, "text-to-audio", **declared)
        with pytest.raises(ModelFailed, match="nothing but these is unpickled"):
            load(folder, "text-to-audio", allow_pickle=True, **declared)
    assert not mark.exists()


@pytest.mark.parametrize("allows", [False, True])
def test_a_pickled_adapter_runs_nothing(models_dir: Path, tmp_path: Path, mark: Path, allows: bool) -> None:
    """Of an entry's own, or of a request's: it is that adapter's problem."""
    folder = models_dir / "encoder"
    adapter = adapter_of(folder, tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").unlink()
    set_trap(adapter / "adapter_model.bin", mark)
    spec = AdapterSpec(id="one", path=str(adapter))
    loaded = load(folder, "feature-extraction", adapters=(spec,), allow_pickle=allows).adapters
    assert isinstance(loaded, Adapters)
    assert loaded.problems
    assert not mark.exists()


def adapter_of(folder: Path, place: Path) -> Path:
    model = AutoModel.from_pretrained(folder).eval()
    return save(model, place, lora(target_modules=["query", "value"], task_type="FEATURE_EXTRACTION"))


def test_a_pickled_adapter_among_a_models_files_runs_nothing(models_dir: Path, tmp_path: Path, mark: Path) -> None:
    """transformers puts an adapter that lies beside a model's weights into the model; a safe one is put there."""
    folder = Path(shutil.copytree(models_dir / "encoder", tmp_path / "model"))
    adapter = adapter_of(folder, tmp_path / "adapter")
    for file in adapter.iterdir():
        shutil.copy(file, folder)
    load(folder, "feature-extraction")
    (folder / "adapter_model.safetensors").unlink()
    set_trap(folder / "adapter_model.bin", mark)
    with pytest.raises(ModelFailed, match="allow_pickle: true"):
        load(folder, "feature-extraction")
    with pytest.raises(ModelFailed):
        load(folder, "feature-extraction", allow_pickle=True)
    assert not mark.exists()


def test_an_adapter_that_names_others_is_refused(models_dir: Path, tmp_path: Path) -> None:
    """X-LoRA's would be fetched from wherever they are, pickled or not."""
    adapter = adapter_of(models_dir / "encoder", tmp_path / "adapter")
    others = {"peft_type": "XLORA", "adapters": {"0": "acme/elsewhere"}, "hidden_size": 32}
    (adapter / "adapter_config.json").write_text(json.dumps({**others, "task_type": "FEATURE_EXTRACTION"}))
    spec = AdapterSpec(id="one", path=str(adapter))
    loaded = load(models_dir / "encoder", "feature-extraction", adapters=(spec,)).adapters
    assert isinstance(loaded, Adapters)
    assert "X-LoRA" in str(loaded.problems)


@pytest.mark.parametrize("name", ["AutoConfig", "AutoModelForSequenceClassification", "AutoModel"])
def test_code_of_a_known_model_is_not_run(classifier: Path, mark: Path, name: str) -> None:
    """A repository may bring code for an architecture that transformers has: its own is taken."""
    (classifier / "own.py").write_text(code(mark))
    change(classifier / "config.json", auto_map={name: "own.Own"})
    load(classifier, CLASSIFICATION)
    assert not mark.exists()


def test_code_of_a_tokenizer_is_not_run(classifier: Path, mark: Path) -> None:
    """Named where transformers looks for it; it may say so, or do without."""
    (classifier / "own.py").write_text(code(mark))
    change(classifier / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]}, tokenizer_class="Own")
    try:
        load(classifier, CLASSIFICATION)
    except ModelFailed as error:
        assert "trust_remote_code: true" in error.message
    assert not mark.exists()


def test_code_of_a_processor_is_not_run(tmp_path: Path, mark: Path) -> None:
    folder = tiny.build("vit-classifier", tmp_path)
    (folder / "own.py").write_text(code(mark))
    own = {"auto_map": {"AutoImageProcessor": "own.Own"}, "image_processor_type": "Own"}
    change(folder / "preprocessor_config.json", **own)
    with pytest.raises(ModelFailed):
        load(folder, "image-classification")
    assert not mark.exists()


def test_custom_generation_is_not_run(tiny_dir: Path, tmp_path: Path, mark: Path) -> None:
    """A repository's own `generate`, which transformers takes where code is trusted."""
    folder = Path(shutil.copytree(tiny.build("llama-chat", tiny_dir), tmp_path / "model"))
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(code(mark))
    load(folder, "text-generation")
    assert not mark.exists()


def test_a_handler_is_not_run(classifier: Path, mark: Path) -> None:
    """Beside a model that is served by its task."""
    (classifier / "handler.py").write_text(code(mark))
    load(classifier, CLASSIFICATION)
    assert not mark.exists()
