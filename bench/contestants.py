"""Who serves in the contest of encoders: ours, and every rival with the settings to look for its best among."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.environments import (
    BENTOML,
    INFINITY,
    INFINITY_FAST,
    LITSERVE,
    MLSERVER,
    RAY,
    VLLM,
    VLLM_VARIABLES,
    Environment,
)
from bench.processes import REPOSITORY, THREADS, serve_command, write_catalog

EMBEDDING, CLASSIFICATION = "feature-extraction", "text-classification"
Texts = str | list[str]
Answer = list[float]
"""What is compared: a vector, or the scores of the labels in alphabetical order."""


@dataclass(frozen=True, kw_only=True)
class Model:
    name: str
    task: str
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a server is asked for a task. read: one answer a text."""

    path: str
    write: Callable[[Texts], Any]
    read: Callable[[Any], list[Answer]]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to run a rival. environment: None, the project's own. variables: of the process."""

    name: str
    arguments: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    environment: Environment | None = None
    is_slow_to_start: bool = False  # minutes: not tried in a quick run


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """command: for a setting, a model, a port and a folder to write to. note: what a reader must know of it."""

    name: str
    command: Callable[[Setting, Model, int, Path], list[str]]
    dialects: Mapping[str, Dialect]
    settings: Sequence[Setting]
    health: str = "/health"
    note: str = ""
    is_framework: bool = False  # a Python framework around the same model
    packages: tuple[str, ...] = ()  # of the project's own environment, whose versions are told
    tolerance: float = 0.999  # the least cosine to the reference's answers


def _openai(path: str) -> Dialect:
    return Dialect(
        path=path,
        write=lambda texts: {"model": "bench", "input": texts},
        read=lambda body: [row["embedding"] for row in body["data"]],
    )


def _scores(rows: Any) -> list[Answer]:
    """Of lists of {label, score}, in the order of the labels' names."""
    return [[pair["score"] for pair in sorted(row, key=lambda pair: pair["label"])] for row in rows]


def _inputs(path: str, read: Callable[[Any], list[Answer]]) -> Dialect:
    return Dialect(path=path, write=lambda texts: {"inputs": texts}, read=read)


_PREDICT = {EMBEDDING: _inputs("/predict", lambda rows: rows), CLASSIFICATION: _inputs("/predict", _scores)}


def ours(name: str = "pipeserve", variables: Mapping[str, str] | None = None, **entry: Any) -> Contestant:
    """variables: of its environment. entry: keys of models.yaml beside id, task and model."""

    def command(setting: Setting, model: Model, port: int, scratch: Path) -> list[str]:
        whole = {"id": "bench", "task": model.task, "model": str(model.folder), "threads": THREADS, "preload": True}
        return serve_command(write_catalog(scratch, [{**whole, **entry}]), port)

    told = ", ".join(f"{key}: {value}" for key, value in {"threads": THREADS, **entry}.items())
    return Contestant(
        name=name,
        command=command,
        dialects={
            EMBEDDING: _openai("/v1/embeddings"),
            CLASSIFICATION: _inputs(
                "/v1/text-classification", lambda rows: _scores(rows if isinstance(rows[0], list) else [rows])
            ),
        },
        settings=(Setting(name=told, variables=variables or {}),),
        health="/readyz",
        packages=("pipeserve", "transformers"),
        tolerance=0.99 if variables else 0.999,  # the tuner may lose what it was allowed to
    )


def _infinity() -> list[Contestant]:
    """At its best, which is what is judged; and as it comes."""

    def command(setting: Setting, model: Model, port: int, scratch: Path) -> list[str]:
        assert setting.environment is not None
        arguments = ["v2", "--model-id", str(model.folder), "--served-model-name", "bench", "--engine", "torch"]
        arguments += ["--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
        return [setting.environment.program("infinity_emb"), *arguments, "--log-level", "error", *setting.arguments]

    quiet = {"INFINITY_ANONYMOUS_USAGE_STATS": "0", "DO_NOT_TRACK": "1"}

    def setting(batch: int, *flags: str, environment: Environment = INFINITY) -> Setting:
        arguments = ("--batch-size", str(batch), *flags)
        return Setting(
            name=" ".join(arguments),
            arguments=arguments,
            variables=quiet,
            environment=environment,
            is_slow_to_start="--compile" in flags,
        )

    best = Contestant(
        name="infinity",
        command=command,
        dialects={
            EMBEDDING: _openai("/embeddings"),
            CLASSIFICATION: Dialect(
                path="/classify",
                write=lambda texts: {"model": "bench", "input": [texts] if isinstance(texts, str) else texts},
                read=lambda body: _scores(body["data"]),
            ),
        },
        settings=(
            setting(32, "--no-bettertransformer", "--no-compile"),
            setting(8, "--no-bettertransformer", "--no-compile"),
            setting(32, "--bettertransformer", "--no-compile", environment=INFINITY_FAST),
            setting(32, "--no-bettertransformer", "--compile"),
        ),
    )
    defaults = Setting(name="its defaults", variables=quiet, environment=INFINITY)
    note = "as it is installed today, without BetterTransformer, and without a flag for speed"
    return [best, replace(best, name="infinity (default)", settings=(defaults,), note=note)]


def _batched(module: str, environment: Environment, name: str, health: str) -> Contestant:
    def command(setting: Setting, model: Model, port: int, scratch: Path) -> list[str]:
        arguments = [model.task, str(model.folder), "--port", str(port), "--threads", str(THREADS)]
        return [str(environment.python), "-m", module, *arguments, *setting.arguments]

    def setting(batch: int, timeout_s: float) -> Setting:
        arguments = ("--max-batch-size", str(batch), "--batch-timeout", str(timeout_s))
        return Setting(name=" ".join(arguments), arguments=arguments, environment=environment, variables=_PATHS)

    return Contestant(
        name=name,
        command=command,
        dialects=_PREDICT,
        settings=(setting(32, 0.01), setting(8, 0.01)),
        health=health,
        is_framework=True,
    )


_PATHS = {
    "PYTHONPATH": str(REPOSITORY),
    "BENTOML_DO_NOT_TRACK": "True",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # its 5 s are too few on a small machine
}


def _bentoml() -> Contestant:
    def command(setting: Setting, model: Model, port: int, scratch: Path) -> list[str]:
        served = ["serve", "bench.rivals.bentoml:EncoderService", "--host", "127.0.0.1", "--port", str(port)]
        settings = [f"BENCH_TASK={model.task}", f"BENCH_FOLDER={model.folder}", f"BENCH_THREADS={THREADS}"]
        return ["env", *settings, BENTOML.program("bentoml"), *served]

    def setting(batch: int) -> Setting:
        variables = {**_PATHS, "BENCH_MAX_BATCH_SIZE": str(batch)}
        return Setting(name=f"max_batch_size={batch}", variables=variables, environment=BENTOML)

    def dialect(read: Callable[[Any], list[Answer]]) -> Dialect:
        def write(texts: Texts) -> Any:
            return {"inputs": [texts] if isinstance(texts, str) else texts}

        return Dialect(path="/predict", write=write, read=read)

    return Contestant(
        name="BentoML",
        command=command,
        dialects={EMBEDDING: dialect(lambda rows: rows), CLASSIFICATION: dialect(_scores)},
        settings=(setting(32), setting(8)),
        health="/readyz",
        is_framework=True,
    )


def _answering_all_labels(model: Path, folder: Path) -> Path:
    """The model, with a config by which the pipeline of MLServer answers all labels, not the likeliest alone."""
    folder.mkdir(exist_ok=True)
    for file in model.iterdir():
        copy = folder / file.name
        copy.unlink(missing_ok=True)
        if file.name == "config.json":
            copy.write_text(json.dumps({**json.loads(file.read_text()), "return_all_scores": True}))
        else:
            copy.symlink_to(file)
    return folder


def _mlserver() -> Contestant:
    def command(setting: Setting, model: Model, port: int, scratch: Path) -> list[str]:
        folder = _answering_all_labels(model.folder, scratch / "model")
        extra = {"task": model.task, "pretrained_model": str(folder), "device": -1}
        extra |= {"framework": "pt", "intra_op_threads": THREADS}
        served = {
            "name": "bench",
            "implementation": "mlserver_huggingface.HuggingFaceRuntime",
            "max_batch_size": 32,
            "max_batch_time": 0.01,
            "parameters": {"extra": extra},
        }
        (scratch / "model-settings.json").write_text(json.dumps(served))
        ports = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
        (scratch / "settings.json").write_text(json.dumps({"host": "127.0.0.1", "debug": False, **ports}))
        return [MLSERVER.program("mlserver"), "start", str(scratch)]

    def setting(parallel_workers: int) -> Setting:
        variables = {"MLSERVER_PARALLEL_WORKERS": str(parallel_workers), "USE_TF": "0"}
        name = f"max_batch_size=32 max_batch_time=0.01 parallel_workers={parallel_workers}"
        return Setting(name=name, variables=variables, environment=MLSERVER)

    def write(texts: Texts) -> Any:
        data = [texts] if isinstance(texts, str) else texts
        return {"inputs": [{"name": "inputs", "shape": [len(data), 1], "datatype": "BYTES", "data": data}]}

    def labels(body: Any) -> list[Answer]:
        found = [json.loads(one) for one in body["outputs"][0]["data"]]
        return _scores([row if isinstance(row, list) else [row] for row in found])

    return Contestant(
        name="MLServer",
        command=command,
        dialects={CLASSIFICATION: Dialect(path="/v2/models/bench/infer", write=write, read=labels)},
        settings=(setting(0), setting(1)),
        health="/v2/health/ready",
        is_framework=True,
        note="its runtime answers embeddings token by token, without pooling: it is asked to classify only",
    )


def _plain() -> Contestant:
    def command(setting: Setting, model: Model, port: int, scratch: Path) -> list[str]:
        arguments = [model.task, str(model.folder), "--port", str(port), "--threads", str(THREADS)]
        return [sys.executable, "-m", "bench.plain_fastapi", *arguments]

    return Contestant(
        name="plain FastAPI",
        command=command,
        dialects=_PREDICT,
        settings=(Setting(name="a lock around the pipeline, called in a thread"),),
        health="/docs",
        is_framework=True,
        packages=("fastapi", "transformers"),
    )


def _vllm() -> Contestant:
    def command(setting: Setting, model: Model, port: int, scratch: Path) -> list[str]:
        arguments = ["--model", str(model.folder), "--served-model-name", "bench", "--runner", "pooling"]
        arguments += ["--dtype", "float32", "--host", "127.0.0.1", "--port", str(port), *setting.arguments]
        return [str(VLLM.python), "-m", "vllm.entrypoints.openai.api_server", *arguments]

    def setting(*arguments: str, is_slow_to_start: bool = False) -> Setting:
        return Setting(
            name=" ".join(arguments),
            arguments=arguments,
            variables=VLLM_VARIABLES,
            environment=VLLM,
            is_slow_to_start=is_slow_to_start,
        )

    return Contestant(
        name="vLLM (CPU)",
        command=command,
        dialects={EMBEDDING: _openai("/v1/embeddings")},
        settings=(
            setting("--max-num-seqs", "64", "--enforce-eager"),
            setting("--max-num-seqs", "64", is_slow_to_start=True),  # it compiles
        ),
        note="its CPU build, embeddings only",
    )


def rivals() -> list[Contestant]:
    return [
        *_infinity(),
        _batched("bench.rivals.litserve", LITSERVE, "LitServe", "/health"),
        _bentoml(),
        _batched("bench.rivals.ray", RAY, "Ray Serve", "/predict"),
        _mlserver(),
        _plain(),
        _vllm(),
    ]
