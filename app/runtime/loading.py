"""A `ModelSpec` -> a model that computes, or one sentence about why not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import msgspec
import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoProcessor,
    AutoTokenizer,
    AutoVideoProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from app.catalog import AdapterSpec, ModelSpec
from app.channel.messages import Progress
from app.declaration.exports import problem_of_architecture
from app.errors import ModelFailed, NotAvailable, OutOfMemory
from app.fetching import fetch_adapter_of, fetch_model, fetch_preprocessor
from app.fingerprint import fingerprint
from app.installed import versions_of
from app.made_files import MadeFiles, Recipe
from app.runtime.adapters import Adapters
from app.runtime.audio.vocoder import Vocoder
from app.runtime.backends.existing import existing_export
from app.runtime.backends.exporting import DISTRIBUTIONS as EXPORTING
from app.runtime.backends.exporting import FILE as EXPORT
from app.runtime.backends.exporting import OUTPUTS, export
from app.runtime.backends.network import in_place_of, outputs_for
from app.runtime.backends.optimum import LIBRARIES as OPTIMUM
from app.runtime.backends.optimum import load_network
from app.runtime.backends.runtimes import exported_runtime
from app.runtime.base import LoadedModel
from app.runtime.compiling import require_compiler
from app.runtime.embeddings import TOKEN_VECTORS
from app.runtime.generation.making import make_engine
from app.runtime.handlers import load_handler
from app.runtime.model import TransformersModel
from app.runtime.packing import computes, pack
from app.runtime.parts import Parts, tokenizer_of
from app.runtime.placement import Placement, free_bytes, placement_of
from app.runtime.quantizing import INT8, is_quantised_by_transformers, loading_options, quantise
from app.runtime.sentence_files import SentenceFiles, pooling_modes, read_sentence_files, transformer_folder
from app.runtime.tokenizing import Tokenizers, token_limit
from app.settings import default_cache_dir
from app.tasks.architectures import ARCHITECTURES
from app.tasks.completion import ENCODED_TASK, FILE_TASKS, GENERATING_TASKS, TEXT_TASK
from app.tasks.feature_extraction import EMBEDDING_TASKS
from app.tasks.registry import ALL_TASKS

_DTYPES = ("float32", "float16", "bfloat16", "float64")
PREPROCESSORS: dict[str, Any] = {
    "tokenizer": AutoTokenizer,
    "image_processor": AutoImageProcessor,
    "feature_extractor": AutoFeatureExtractor,
    "video_processor": AutoVideoProcessor,
    "processor": AutoProcessor,
}
_ENCODER_ONLY = frozenset({"t5", "mt5", "umt5"})
"""Embeddings of these come from the encoder alone: AutoModel would want a decoder's input."""
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
_MAX_REASON_CHARS = 300


def load_model(
    spec: ModelSpec, *, num_threads: int, progress: Callable[[Progress], None], cache_dir: Path | None = None
) -> LoadedModel:
    """Download what is missing, load it on its device. Call it on the device thread. cache_dir: for what a backend
    makes of a model's files once; None: the default one.

    Raises ModelFailed, NotAvailable or OutOfMemory, each with a sentence for the operator.
    """
    torch.set_num_threads(num_threads)
    transformers.utils.logging.disable_progress_bar()  # a server's log is no terminal
    with one_sentence(spec.id):
        return _load(spec, num_threads, progress, MadeFiles(cache_dir or default_cache_dir()))


def _load(
    spec: ModelSpec, num_threads: int, progress: Callable[[Progress], None], made_files: MadeFiles
) -> LoadedModel:
    if spec.has_handler:
        return load_handler(spec, fetch_model(spec, progress))
    folder = fetch_model(spec, progress)
    progress(Progress(phase="load"))
    tasks = _tasks(spec, folder)
    if spec.backend == "vllm":
        return _load_with_vllm(spec, folder, tasks, progress)
    files = _sentence_files(spec, folder) if any(task in EMBEDDING_TASKS for task in tasks) else TOKEN_VECTORS
    transformer = transformer_folder(folder) if files.has_files else folder
    if spec.backend in OPTIMUM:
        return _load_optimum(spec, folder, transformer, tasks, files, num_threads, progress, made_files)
    if spec.backend != "torch":
        return _load_exported(spec, folder, transformer, tasks, files, num_threads, progress, made_files)
    placement = placement_of(spec)
    if spec.compile:
        require_compiler(placement.devices[0])
    model = _load_weights(spec, transformer, tasks, placement)
    num_parameters = int(model.num_parameters())
    dtype = _computed_in(model, spec)
    adapters = _adapters(spec, model, dtype, progress)
    model = _as_the_device_computes(spec, model, tasks, dtype, adapters)
    parts = replace(_parts(spec, transformer, tasks, model, progress), adapters=adapters)
    parts = _with_engine(spec, parts, tasks)
    return TransformersModel(
        parts,
        tasks,
        files,
        devices=placement.names,
        num_parameters=num_parameters,
        compiles=spec.compile,
        unpads=not spec.compile,  # its layout is no tensor's: compiled code would be of one batch alone
    )


def _load_optimum(
    spec: ModelSpec,
    folder: Path,
    transformer: Path,
    tasks: list[str],
    files: SentenceFiles,
    num_threads: int,
    progress: Callable[[Progress], None],
    made_files: MadeFiles,
) -> LoadedModel:
    """By a network of Optimum's, with the same preprocessors and stages."""
    exact = msgspec.structs.replace(spec, dtype="float32", device="cpu", quantization=None)

    def load_eager() -> PreTrainedModel:
        return _load_weights(exact, transformer, tasks, placement_of(exact))

    skeleton = _skeleton(spec, transformer, tasks)
    network = load_network(
        spec,
        transformer,
        existing_export(spec, folder),
        skeleton,
        _auto_class(spec, tasks, skeleton.config).__name__,
        load_eager,
        num_threads=num_threads,
        made_files=made_files,
        progress=progress,
    )
    return TransformersModel(
        _with_engine(spec, _parts(spec, transformer, tasks, network.model, progress), tasks),
        tasks,
        files,
        devices=("cpu",),
        num_parameters=int(skeleton.num_parameters()),
        dtype=network.precision,
        largest_difference=network.difference,
    )


def _load_exported(
    spec: ModelSpec,
    folder: Path,
    transformer: Path,
    tasks: list[str],
    files: SentenceFiles,
    num_threads: int,
    progress: Callable[[Progress], None],
    made_files: MadeFiles,
) -> LoadedModel:
    """By a backend that computes an export: the model's own, or one that is made once and kept."""
    skeleton = _skeleton(spec, transformer, tasks)
    problem = problem_of_architecture(spec.backend, tasks, [type(skeleton).__name__])
    if problem is not None:
        raise ModelFailed(problem)
    runtime = exported_runtime(spec.backend)
    dtype = "float32" if spec.dtype == "auto" else spec.dtype
    precision = spec.quantization or dtype
    device = spec.device or "cpu"
    open_session = partial(runtime.open_session, device=device, dtype=dtype)

    def make(place: Path) -> Mapping[str, Any]:
        progress(Progress(phase="export"))
        exact = msgspec.structs.replace(spec, dtype="float32", device="cpu", devices=(), device_map=None)
        network = _load_weights(exact, transformer, tasks, placement_of(exact))
        parts = _parts(spec, transformer, tasks, network, progress)
        eager = TransformersModel(parts, tasks, files, devices=("cpu",), num_parameters=0)
        return export(
            eager, network, place, precision=precision, open_session=partial(open_session, num_threads=num_threads)
        )

    path, difference = existing_export(spec, folder), None
    if path is None:
        recipe = Recipe(
            source=fingerprint(transformer),
            task=tasks[0],
            backend=spec.backend,
            options={"precision": precision, "auto_class": spec.auto_class},
            versions=versions_of((*EXPORTING, *runtime.DISTRIBUTIONS)),
        )
        made = made_files.get(recipe, make)
        path, difference = made.folder / EXPORT, made.facts["difference"]
    session = open_session(path, num_threads=num_threads)
    outputs = {name: name for name in session.outputs}
    if tasks[0] in OUTPUTS:
        outputs = outputs_for(OUTPUTS[tasks[0]], session, file_name=path.name, task=tasks[0])
    network = in_place_of(skeleton, session, outputs, lambda num_threads: open_session(path, num_threads=num_threads))
    parts = _parts(spec, transformer, tasks, network, progress)
    return TransformersModel(
        parts,
        tasks,
        files,
        devices=(device,),
        num_parameters=network.num_parameters(),
        dtype=precision,
        largest_difference=difference,
    )


def _skeleton(spec: ModelSpec, folder: Path, tasks: Sequence[str]) -> PreTrainedModel:
    """The model without its weights."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=spec.trust_remote_code)
    with torch.device("meta"):
        return _auto_class(spec, tasks, config).from_config(config, trust_remote_code=spec.trust_remote_code)


def _load_with_vllm(
    spec: ModelSpec, folder: Path, tasks: Sequence[str], progress: Callable[[Progress], None]
) -> LoadedModel:
    """Weights, keys and values are vLLM's; all else asks a model that has none."""
    from app.runtime.backends.vllm import computed_in, hollow_model, make_vllm_engine

    placement = placement_of(spec)
    if spec.compile:
        require_compiler(placement.devices[0])
        progress(Progress(phase="compile"))
    config = AutoConfig.from_pretrained(folder, trust_remote_code=spec.trust_remote_code)
    dtype = computed_in(spec, config, placement.devices[0])
    auto_class = _auto_class(spec, tasks, config)
    model = hollow_model(auto_class, config, folder, dtype=dtype, trust_remote_code=spec.trust_remote_code)
    parts = _parts(spec, folder, tasks, model, progress)
    engine = make_vllm_engine(spec, folder, model, tokenizer_of(parts), placement, max_length=parts.limit)
    parts = replace(parts, engine=engine)
    num_parameters = int(model.num_parameters())
    return TransformersModel(parts, tasks, TOKEN_VECTORS, devices=placement.names, num_parameters=num_parameters)


def _adapters(
    spec: ModelSpec, model: PreTrainedModel, dtype: torch.dtype, progress: Callable[[Progress], None]
) -> Adapters | None:
    if not spec.takes_adapters:
        return None

    def get_folder(adapter: AdapterSpec) -> Path:
        return fetch_adapter_of(spec, adapter, progress)

    adapters = Adapters(model, get_folder, dtype=dtype, allow_pickle=spec.allow_pickle)
    adapters.load_declared(spec.adapters)
    return adapters


def _with_engine(spec: ModelSpec, parts: Parts, tasks: Sequence[str]) -> Parts:
    """What chats or completes has an engine."""
    if not any(task in GENERATING_TASKS for task in tasks):
        return parts
    engine = make_engine(
        parts.model,
        tokenizer_of(parts),
        max_length=parts.limit,
        pool_bytes=spec.kv_cache_bytes,
        batch=spec.batch,
        takes_files=TEXT_TASK not in tasks and any(task in FILE_TASKS for task in tasks),
        adapters=parts.adapters,
    )
    return replace(parts, engine=engine)


def _parts(
    spec: ModelSpec, folder: Path, tasks: Sequence[str], model: PreTrainedModel, progress: Callable[[Progress], None]
) -> Parts:
    """The model with the preprocessors that its tasks need; what is declared goes before what the folder holds."""
    wanted: dict[str, bool] = {}  # name -> whether the tasks can do without
    for task in tasks:
        for need in ALL_TASKS[task].needs:
            name = need.removesuffix("?")
            wanted[name] = wanted.get(name, True) and need.endswith("?")
    loaded = {name: _preprocessor(spec, name, folder, progress, optional) for name, optional in wanted.items()}
    tokenizer = loaded.pop("tokenizer", None)
    if tokenizer is None:
        return Parts(model=model, folder=folder, media=spec.media, **loaded)
    _make_paddable(model, tokenizer)
    tokenizers = Tokenizers(tokenizer, lambda tokenizer: None)
    limit = token_limit(model, tokenizer)
    return Parts(model=model, folder=folder, media=spec.media, tokenizers=tokenizers, limit=limit, **loaded)


def _preprocessor(
    spec: ModelSpec, name: str, folder: Path, progress: Callable[[Progress], None], is_optional: bool
) -> Any:
    declared: str | None = getattr(spec, name, None)
    if declared is not None:
        folder = fetch_preprocessor(spec, name, progress)
    try:
        if name == "vocoder":
            return Vocoder.from_pretrained(folder, allow_pickle=spec.allow_pickle)
        return PREPROCESSORS[name].from_pretrained(folder, trust_remote_code=spec.trust_remote_code)
    except (OSError, ValueError, ImportError, KeyError, TypeError):
        if is_optional and declared is None:
            return None
        raise


def _tasks(spec: ModelSpec, folder: Path) -> list[str]:
    """Declared ones and what they imply; for an unresolved entry, what its files say."""
    declared = spec.tasks or (_task_of_files(folder),)
    for task in declared:
        if task not in ALL_TASKS:
            raise NotAvailable(f"This installation cannot do {task}.")
    implied = spec.implied_tasks or tuple(other for task in declared for other in ALL_TASKS[task].implies)
    return list(dict.fromkeys((*declared, *(task for task in implied if task in ALL_TASKS))))


def _task_of_files(folder: Path) -> str:
    if (folder / "modules.json").exists():
        return "feature-extraction"
    config = json.loads((folder / "config.json").read_bytes())
    for architecture in config.get("architectures") or []:
        for task in ARCHITECTURES.get(architecture, ()):
            if task in ALL_TASKS:
                return task
    raise ModelFailed(f"The files in {folder} do not say which task the model does: declare its task.")


def _sentence_files(spec: ModelSpec, folder: Path) -> SentenceFiles:
    """As the model's files say; what the entry declares goes before."""
    files = read_sentence_files(folder, allow_pickle=spec.allow_pickle) or TOKEN_VECTORS
    if spec.pooling is None:
        if spec.normalize is None:
            return files
        return _changed(files, normalize=spec.normalize)
    declared = {"modes": pooling_modes(spec.pooling), "normalize": bool(spec.normalize)}
    if spec.normalize is None and files.has_files:
        declared.pop("normalize")
    return _changed(files, **declared)


def _changed(files: SentenceFiles, **changes: Any) -> SentenceFiles:
    return SentenceFiles(**{**{name: getattr(files, name) for name in files.__dataclass_fields__}, **changes})


def _load_weights(spec: ModelSpec, folder: Path, tasks: Sequence[str], placement: Placement) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(folder, trust_remote_code=spec.trust_remote_code)
    auto_class = _auto_class(spec, tasks, config)
    options: dict[str, Any] = {"dtype": _dtype(spec.dtype), "trust_remote_code": spec.trust_remote_code}
    options |= placement.options(free_bytes)
    options |= loading_options(spec, config, placement)
    if spec.attn_implementation is not None:
        _check_attention(spec, placement)
        options["attn_implementation"] = spec.attn_implementation
    if not spec.allow_pickle:
        options["use_safetensors"] = True
    model, info = auto_class.from_pretrained(folder, config=config, output_loading_info=True, **options)
    # Without a pooler an encoder is complete; without its head it would answer at random.
    missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)
    if missing:
        raise ModelFailed(
            f"{spec.id} cannot do {tasks[0]}: its weights lack {missing[0]}"
            + (f" and {len(missing) - 1} more." if len(missing) > 1 else ".")
        )
    placement.check(model)
    is_placed = placement.device_map is not None or is_quantised_by_transformers(model)
    return (model if is_placed else model.to(placement.devices[0])).eval()


def _check_attention(spec: ModelSpec, placement: Placement) -> None:
    """What transformers would say in many lines, or only in the first forward."""
    name, device = spec.attn_implementation or "", placement.devices[0].type
    if name.startswith("flash_attention") and device == "cpu":
        raise NotAvailable(f"attn_implementation: {name} needs a CUDA device, and this model is on a CPU: choose sdpa.")
    if name.startswith("flash_attention") and spec.dtype == "float32":
        raise ModelFailed(f"attn_implementation: {name} computes bfloat16 and float16, not the entry's dtype: float32.")


def _computed_in(model: PreTrainedModel, spec: ModelSpec) -> torch.dtype:
    """Half precision that the CPU does not compute in is float32, unless the entry wants otherwise."""
    is_fit = (
        model.device.type != "cpu"
        or computes(model.dtype)
        or spec.dtype != "auto"
        or is_quantised_by_transformers(model)  # it cannot be converted
    )
    return model.dtype if is_fit else torch.float32


def _as_the_device_computes(
    spec: ModelSpec, model: PreTrainedModel, tasks: Sequence[str], dtype: torch.dtype, adapters: Adapters | None
) -> PreTrainedModel:
    """In that type; on a CPU quantised, or what generates with its weights packed, encoder-decoders aside, unless an
    adapter computes with them. In this order: most weights are never there in float32."""
    generates = any(task in GENERATING_TASKS for task in tasks) and ENCODED_TASK not in tasks
    needs_weights = adapters is not None and adapters.need_weights
    if spec.quantization == INT8:
        if needs_weights:
            raise ModelFailed(f"quantization: {INT8}: an adapter of {spec.id} computes with the weights themselves.")
        quantise(model)
    if model.device.type == "cpu" and generates and not needs_weights:
        pack(model)
    return model if model.dtype == dtype else model.to(dtype)


def _auto_class(spec: ModelSpec, tasks: Sequence[str], config: Any) -> Any:
    """The class whose head does all the tasks. Embeddings need none, so they go with any."""
    if spec.auto_class is not None:
        if not hasattr(transformers, spec.auto_class):
            raise NotAvailable(f"transformers {transformers.__version__} has no {spec.auto_class}.")
        return getattr(transformers, spec.auto_class)
    heads: dict[str, tuple[str, str]] = {}  # class -> the Auto class that finds it, and the task that wants it
    for task in tasks:
        name = _class_for(task, config)
        if task not in EMBEDDING_TASKS and name != "AutoModel":
            heads.setdefault(_concrete(name, config), (name, task))
    if len(heads) > 1:
        wanted = " and ".join(task for _, task in heads.values())
        raise ModelFailed(f"One set of weights cannot do {wanted}: declare an entry for each.")
    name, _ = next(iter(heads.values()), ("AutoModel", ""))
    if name == "AutoModel" and config.model_type in _ENCODER_ONLY:
        name = "AutoModelForTextEncoding"
    return getattr(transformers, name)


def _class_for(task: str, config: Any) -> str:
    """Of the task's Auto classes the one that has the checkpoint's own architecture, else the first that knows its
    config. The same class does several tasks: these share their weights."""
    there = [name for name in ALL_TASKS[task].auto_classes if hasattr(transformers, name)]
    if not there:
        raise NotAvailable(f"transformers {transformers.__version__} cannot do {task}; newer ones can.")
    known = [name for name in there if type(config) in getattr(transformers, name)._model_mapping]
    for name in known:
        classes = getattr(transformers, name)._model_mapping[type(config)]
        classes = classes if isinstance(classes, tuple) else (classes,)
        if any(one.__name__ in (config.architectures or ()) for one in classes):
            return name
    return known[0] if known else there[0]


def _concrete(name: str, config: Any) -> str:
    """What the Auto class makes of this config: several of them may make the same."""
    return str(getattr(transformers, name)._model_mapping.get(type(config), name))


def _dtype(name: str) -> Any:
    if name == "auto":
        return name
    if name not in _DTYPES:
        raise ModelFailed(f'dtype "{name}" is unknown; there are auto, {", ".join(_DTYPES)}.')
    return getattr(torch, name)


def _make_paddable(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """GPT-2 and others have no padding token; with an attention mask any will do, and classifiers ask for one."""
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
    # Models made of several (CLAP, MusicGen) keep it in their parts' configs.
    if getattr(model.config, "pad_token_id", 0) is None and tokenizer.pad_token_id is not None:
        model.config.pad_token_id = tokenizer.pad_token_id


@contextmanager
def one_sentence(model_id: str) -> Iterator[None]:
    """What the libraries raise, as the errors that a model's page shows."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemory(f"{model_id} does not fit into memory: {_first_line(error)}") from error
    except ImportError as error:
        raise NotAvailable(f"{model_id} needs a library that is not installed: {_first_line(error)}") from error
    except UnpicklingError as error:  # torch's own words advise to run what is in it
        raise ModelFailed(
            f"{model_id} cannot be loaded: a pickle among its files is broken, or holds more than tensors and plain"
            " values; nothing but these is unpickled."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = _first_line(error)
        if isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY):
            raise OutOfMemory(f"{model_id} does not fit into memory: {reason}") from error
        if "trust_remote_code" in str(error):
            reason = "its repository holds code of its own, which runs only if you declare trust_remote_code: true"
        raise ModelFailed(f"{model_id} cannot be loaded: {reason}") from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:_MAX_REASON_CHARS]}" if lines else type(error).__name__
