"""`backend: vllm`: vLLM's own engine (0.32), in this process, for models that generate texts.

It is driven step by step on the device thread, as our engine is: no server of its own, no process of its own on one
device, nothing of its usage reports. What prepares and finishes texts is the same for every engine.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedModel

from app.catalog import ModelSpec
from app.errors import InvalidInput, ModelFailed, NotAvailable
from app.runtime.backends.vllm_arguments import SamplingArguments
from app.runtime.backends.vllm_engine import FAILED, NOT_FINITE, Part, Step, VllmEngine
from app.runtime.generation.defaults import end_ids_of
from app.runtime.generation.making import pool_tokens
from app.runtime.generation.request import Grammar, Matcher, Ranked
from app.runtime.packing import computes
from app.runtime.placement import Placement, free_bytes
from app.settings import CACHE_DIR_VARIABLE

if TYPE_CHECKING:
    from vllm.v1.engine import EngineCoreOutput

logger = logging.getLogger(__name__)

BLOCK_TOKENS = 128
"""Of keys and values that vLLM sets aside at a time on a CPU; elsewhere fewer. The first block holds no text."""


def hollow_model(
    auto_class: Any, config: Any, folder: Path, *, dtype: torch.dtype, trust_remote_code: bool = False
) -> PreTrainedModel:
    """The model as transformers knows it, without weights: what the stages ask about a model is asked of it."""
    with torch.device("meta"):
        model: PreTrainedModel = auto_class.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model.eval()


def computed_in(spec: ModelSpec, config: Any, device: torch.device) -> torch.dtype:
    """Half precision that the CPU does not compute in is float32, unless the entry wants otherwise. What is quantized
    has a type of its own."""
    if spec.dtype != "auto":
        return _dtype(spec.dtype)
    own = _dtype(getattr(config, "dtype", None) or torch.float32)
    is_fit = device.type != "cpu" or computes(own) or _is_quantized(config)
    return own if is_fit else torch.float32


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    found: torch.dtype = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype)
    return found


def _is_quantized(config: Any) -> bool:
    return getattr(config, "quantization_config", None) is not None


# What the engine is made from


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineArguments:
    """Named as in vLLM's `EngineArgs`. generation_config: none, a request says everything. seed: of all texts that have
    none of their own: another at each start."""

    model: str
    tokenizer: str
    dtype: str
    max_model_len: int
    kv_cache_memory_bytes: int
    tensor_parallel_size: int
    trust_remote_code: bool
    load_format: str
    seed: int
    enforce_eager: bool
    generation_config: str = "vllm"
    max_logprobs: int = -1
    use_tqdm_on_load: bool = False

    def keywords(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def engine_arguments(
    spec: ModelSpec,
    folder: Path,
    config: Any,
    placement: Placement,
    *,
    tokenizer: str,
    context: int,
    seed: int,
    free_bytes: Callable[[torch.device], int] = free_bytes,
) -> EngineArguments:
    """tokenizer: its folder. context: tokens that model and tokenizer take. Raises ModelFailed if keys and values have
    no room."""
    device = placement.devices[0]
    dtype = computed_in(spec, config, device)
    each = bytes_per_token(config, dtype)
    if spec.kv_cache_bytes is None:
        pool = (pool_tokens({device: each}, context, free_bytes) + 2 * BLOCK_TOKENS) * each
    else:
        pool = spec.kv_cache_bytes
    longest = min(context, (pool // each // BLOCK_TOKENS - 1) * BLOCK_TOKENS)
    if longest < 1:
        needed = 2 * BLOCK_TOKENS * each
        raise ModelFailed(f"{spec.id} cannot be loaded: kv_cache: vLLM needs {needed} bytes at least, not {pool}.")
    return EngineArguments(
        model=str(folder),
        tokenizer=tokenizer,
        dtype="auto" if spec.dtype == "auto" and _is_quantized(config) else str(dtype).removeprefix("torch."),
        max_model_len=longest,
        kv_cache_memory_bytes=pool,
        tensor_parallel_size=len(placement.devices),
        trust_remote_code=spec.trust_remote_code,
        load_format="auto" if spec.allow_pickle else "safetensors",
        seed=seed,
        # On a GPU vLLM always compiles, and decodes by CUDA graphs.
        enforce_eager=device.type == "cpu" and not spec.compile,
    )


def bytes_per_token(config: Any, dtype: torch.dtype) -> int:
    """Of keys and values, all layers together."""
    text = config.get_text_config()
    num_heads = text.num_attention_heads
    head_size = getattr(text, "head_dim", None) or text.hidden_size // num_heads
    num_kv_heads = getattr(text, "num_key_value_heads", None) or num_heads
    return int(2 * text.num_hidden_layers * num_kv_heads * head_size * dtype.itemsize)


def environment_of(placement: Placement, environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that vLLM reads when it is imported."""
    variables = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process, which ends whole
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CONFIGURE_LOGGING": "0",  # its lines are the worker's
        "VLLM_HOST_IP": "127.0.0.1",  # where the devices of one model meet
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # threads are granted by the fleet
        "VLLM_COMPUTE_NANS_IN_LOGITS": "1",
    }
    if CACHE_DIR_VARIABLE in environ:
        variables["VLLM_CACHE_ROOT"] = str(Path(environ[CACHE_DIR_VARIABLE], "vllm"))
    kind = placement.devices[0].type
    if kind == "cpu":
        variables["VLLM_TARGET_DEVICE"] = "cpu"  # the CPU build does not say so in its version
    if kind == "cuda":
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(_name_of(device, environ) for device in placement.devices)
    return variables


def _name_of(device: torch.device, environ: Mapping[str, str]) -> str:
    """A GPU's number among all, from its number among those that are seen."""
    seen = environ.get("CUDA_VISIBLE_DEVICES")
    return str(device.index) if seen is None else seen.split(",")[device.index]


def make_vllm_engine(
    spec: ModelSpec,
    folder: Path,
    model: PreTrainedModel,
    tokenizer: Any,
    placement: Placement,
    *,
    max_length: int | None,
) -> VllmEngine:
    """Loads the weights. Call it on the device thread. model: the hollow one. Raises NotAvailable where there is no
    vLLM, ModelFailed for keys and values without room, and what vLLM raises."""
    kind = placement.devices[0].type
    if kind not in ("cpu", "cuda"):
        raise NotAvailable(f"{spec.id} cannot be loaded: vLLM computes on cpu and cuda, not on {kind}.")
    if max_length is None:
        raise ModelFailed(f"{spec.id} cannot be loaded: its files do not say how long a text may be.")
    arguments = engine_arguments(
        spec,
        folder,
        model.config,
        placement,
        tokenizer=tokenizer.name_or_path,
        context=max_length,
        seed=secrets.randbits(31),
    )
    os.environ.update(environment_of(placement, os.environ))
    core = VllmCore(arguments, vocabulary_size=int(model.get_output_embeddings().weight.shape[0]))
    return VllmEngine(
        core,
        tokenizer,
        end_ids=end_ids_of(model, tokenizer),
        longest=arguments.max_model_len,
        limit_tokens=core.limit_tokens,
        # The host's pages are taken when they are written to, a GPU's memory at once.
        pool={"cpu": arguments.kv_cache_memory_bytes} if kind == "cpu" else {},
    )


# vLLM itself


class VllmCore:
    """Implements `Core`. Owned by the device thread."""

    def __init__(self, arguments: EngineArguments, *, vocabulary_size: int) -> None:
        set_num_threads = torch.set_num_threads
        is_debugged = logger.isEnabledFor(logging.DEBUG)
        logging.getLogger("vllm").setLevel(logging.INFO if is_debugged else logging.WARNING)
        try:
            from vllm.engine.arg_utils import EngineArgs
            from vllm.v1.engine.core_client import InprocClient
            from vllm.v1.engine.input_processor import InputProcessor
            from vllm.v1.executor import Executor
        except ModuleNotFoundError as error:
            raise NotAvailable(
                f"backend: vllm needs {error.name}, which the environment of this worker does not have: make it with"
                " `pipeserve env create vllm`."
            ) from error
        config = EngineArgs(**arguments.keywords()).create_engine_config()
        # Its sampler has functions that are compiled at their first call, by then under load: on a CPU they are not.
        torch.compiler.set_stance("force_eager" if arguments.enforce_eager else "default")
        self._client = InprocClient(config, Executor.get_class(config), log_stats=True)
        if config.device_config.device_type == "cpu" and not arguments.enforce_eager:
            torch.compiler.set_stance("eager_on_recompile")
        self._inputs = InputProcessor(config)
        self._grammars = KeptGrammars(vocabulary_size)
        self._client.engine_core.structured_output_manager.backend = self._grammars
        self.limit_tokens = (config.cache_config.num_gpu_blocks - 1) * config.cache_config.block_size
        self._asked: dict[int, SamplingArguments] = {}
        vars(torch)["set_num_threads"] = (
            set_num_threads  # vLLM forbids it, for the sake of bindings that we do not want
        )

    def add(
        self,
        key: int,
        prompt: Sequence[int],
        arguments: SamplingArguments,
        *,
        banned_runs: Sequence[Sequence[int]],
        grammar: Grammar | None,
    ) -> None:
        from vllm.sampling_params import SamplingParams, StructuredOutputsParams

        name = str(key)
        try:
            params = SamplingParams(**arguments.keywords())
            params._bad_words_token_ids = [list(run) for run in banned_runs] or None
            tokens = {"type": "token", "prompt_token_ids": list(prompt)}
            request = self._inputs.process_inputs(name, tokens, params, supported_tasks=("generate",))
        except ValueError as error:
            raise InvalidInput(f"vLLM does not take this request: {error}") from error
        if grammar is not None:
            self._grammars.keep(name, grammar)
            request.sampling_params.structured_outputs = StructuredOutputsParams(grammar=name)
        self._asked[key] = arguments
        self._client.add_request(request)

    def remove(self, key: int) -> None:
        self._asked.pop(key, None)
        self._client.abort_requests([str(key)])

    def step(self) -> Step:
        outputs = self._client.get_output()
        stats = outputs.scheduler_stats
        return Step(
            parts=[self._part(output) for output in outputs.outputs],
            num_running=0 if stats is None else stats.num_running_reqs,
            kv_usage=0.0 if stats is None else stats.kv_cache_usage,
        )

    def _part(self, output: EngineCoreOutput) -> Part:
        from vllm.v1.engine import EngineCoreEventType, FinishReason

        key = int(output.request_id)
        asked = self._asked.get(key)
        is_broken = output.finish_reason in (FinishReason.ABORT, FinishReason.ERROR)
        if output.finished:
            self._asked.pop(key, None)
        return Part(
            key=key,
            tokens=output.new_token_ids,
            ranked=_ranked(output.new_logprobs, None if asked is None else asked.logprobs),
            prompt_ranked=_ranked(output.new_prompt_logprobs_tensors, None if asked is None else asked.prompt_logprobs),
            num_cached=None if output.prefill_stats is None else output.prefill_stats.num_cached_tokens,
            num_preemptions=sum(one.type == EngineCoreEventType.PREEMPTED for one in output.events or ()),
            is_over=output.finished,
            error=NOT_FINITE if output.num_nans_in_logits else FAILED if is_broken else None,
        )


def _ranked(told: Any, num_top: int | None) -> list[Ranked]:
    """told: vLLM's arrays, of each place the token that stands there, then the likeliest, best first; as many as any
    text of the step wants."""
    if told is None or num_top is None:
        return []
    rows = zip(told.logprob_token_ids.tolist(), told.logprobs.tolist(), strict=True)
    return [
        Ranked(ids[0], values[0], tuple(zip(ids[1 : num_top + 1], values[1 : num_top + 1], strict=True)))
        for ids, values in rows
    ]


class KeptGrammars:
    """Stands in the place of vLLM's backends for structured output: its texts follow the grammars that were compiled,
    and refused, when their requests were prepared."""

    def __init__(self, vocabulary_size: int) -> None:
        self._vocabulary_size = vocabulary_size
        self._kept: dict[str, Grammar] = {}

    def keep(self, name: str, grammar: Grammar) -> None:
        self._kept[name] = grammar

    def compile_grammar(self, request_type: Any, name: str, stop_token_ids: set[int] | None = None) -> Follower:
        """Called on a thread of vLLM's."""
        return Follower(self._kept.pop(name).matcher(), stop_token_ids or set())

    def allocate_token_bitmask(self, max_num_seqs: int) -> torch.Tensor:
        return torch.zeros((max_num_seqs, (self._vocabulary_size + 31) // 32), dtype=torch.int32)

    def destroy(self) -> None:
        """Nothing is held."""


class Follower:
    """One text on its way through its grammar, as vLLM asks it."""

    def __init__(self, matcher: Matcher, end_ids: set[int]) -> None:
        self._matcher = matcher
        self._end_ids = end_ids

    def accept_tokens(self, request_id: str, tokens: list[int]) -> bool:
        return all(token in self._end_ids or self._matcher.accept(token) for token in tokens)

    def fill_bitmask(self, bitmask: torch.Tensor, index: int) -> None:
        row: np.ndarray = bitmask[index].numpy()
        self._matcher.fill(row)

    def is_terminated(self) -> bool:
        return self._matcher.is_finished
