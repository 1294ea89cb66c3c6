"""What devices have and what models need."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.catalog import ModelSpec
from app.fleet.memory import (
    DeviceMemory,
    MachineMemory,
    Measurements,
    cached_folder,
    cpu_memory,
    parse_nvidia_smi,
    placed,
    share_out,
    show_bytes,
    weights_estimate,
)

GIB = 2**30
SMI = "0, GPU-aaa, 1000, 900\n1, GPU-bbb, 2000, 1500\n"


def write_weights(path: Path, **tensors: tuple[str, list[int]]) -> None:
    """A safetensors file that is all header."""
    header = {
        name: {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]} for name, (dtype, shape) in tensors.items()
    }
    encoded = msgspec.json.encode({"__metadata__": {"format": "pt"}, **header})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded)


def write_host(root: Path, *, total_kib: int, available_kib: int) -> None:
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "meminfo").write_text(f"MemTotal: {total_kib} kB\nMemAvailable: {available_kib} kB\n")


def write_group(folder: Path, limit: str, used: int, cached: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")


def spec(model: str | Path, **changes: object) -> ModelSpec:
    return msgspec.structs.replace(ModelSpec(id="m", model=str(model)), **changes)


def test_the_host_has_what_it_says(tmp_path: Path) -> None:
    """Without control groups."""
    write_host(tmp_path, total_kib=8, available_kib=5)
    assert cpu_memory(tmp_path) == DeviceMemory(total_bytes=8192, free_bytes=5120)


def test_the_tightest_control_group_counts(tmp_path: Path) -> None:
    """Its own and those above it; file pages that can be dropped are free."""
    write_host(tmp_path, total_kib=1000, available_kib=900)
    (tmp_path / "proc/self/cgroup").write_text("0::/pod/container\n")
    groups = tmp_path / "sys/fs/cgroup"
    write_group(groups / "pod", "204800", 10_000, 0)
    write_group(groups / "pod" / "container", "102400", 52_400, 2_400)
    assert cpu_memory(tmp_path) == DeviceMemory(total_bytes=102_400, free_bytes=52_400)
    write_group(groups / "pod" / "container", "max", 1, 0)
    assert cpu_memory(tmp_path).total_bytes == 204_800


def test_a_system_that_says_nothing_has_no_limit(tmp_path: Path) -> None:
    """Better no budget than none at all."""
    devices = share_out({"cpu": cpu_memory(tmp_path)}, {})
    assert devices.budgets == {"cpu": None}


def test_this_machine_has_memory() -> None:
    """The real files can be read."""
    memory = cpu_memory()
    assert memory.total_bytes > memory.free_bytes > 0


def test_budgets_are_what_is_free_less_a_margin() -> None:
    """Or what the catalog says: bytes, or a share of the device."""
    found = {
        "cpu": DeviceMemory(total_bytes=10 * GIB, free_bytes=5 * GIB),
        "cuda:0": DeviceMemory(total_bytes=8 * GIB, free_bytes=7 * GIB),
    }
    assert share_out(found, {}).budgets == {"cpu": int(4.5 * GIB), "cuda:0": int(6.3 * GIB)}
    assert share_out(found, {"cpu": 123, "cuda:0": 0.5}).budgets == {"cpu": 123, "cuda:0": 4 * GIB}


def test_models_go_to_an_accelerator_where_there_is_one() -> None:
    """Unless they name a device."""
    memory = DeviceMemory(total_bytes=1, free_bytes=1)
    assert share_out({"cpu": memory}, {}).place(spec("m")) == [("cpu",)]
    both = share_out({"cpu": memory, "cuda:0": memory}, {})
    assert both.place(spec("m")) == [("cuda:0",)]
    assert both.place(spec("m", device="cpu")) == [("cpu",)]


@pytest.mark.parametrize(
    ("declared", "places"),
    [
        ({}, [("cuda:0",)]),
        ({"device": "cuda:1", "replicas": 2}, [("cuda:1",), ("cuda:1",)]),
        ({"replicas": 5}, [("cuda:0",), ("cuda:1",), ("cuda:2",), ("cuda:3",), ("cuda:0",)]),
        ({"device_map": "auto"}, [("cuda:0", "cuda:1", "cuda:2", "cuda:3")]),
        ({"devices": ("cuda:2", "cuda:0")}, [("cuda:2", "cuda:0")]),
        ({"devices": ("cuda:2", "cuda:0"), "replicas": 2}, [("cuda:2",), ("cuda:0",)]),
        ({"devices": ("cuda:2", "cuda:0"), "replicas": 4}, [("cuda:2",), ("cuda:0",), ("cuda:2",), ("cuda:0",)]),
        (
            {"devices": ("cuda:0", "cuda:1", "cuda:2", "cuda:3"), "replicas": 2},
            [("cuda:0", "cuda:1"), ("cuda:2", "cuda:3")],
        ),
        ({"device_map": {"a": "cuda:1", "b": "cuda:0", "c": "cuda:1"}}, [("cuda:1", "cuda:0")]),
    ],
)
def test_replicas_get_their_places(declared: dict[str, Any], places: list[tuple[str, ...]]) -> None:
    """On a machine with four accelerators."""
    memory = DeviceMemory(total_bytes=1, free_bytes=1)
    devices = share_out({"cpu": memory, **{f"cuda:{number}": memory for number in range(4)}}, {})
    assert devices.place(spec("m", **declared)) == places


def test_worker_is_told_its_own_devices() -> None:
    """And nothing where none is known here: it may see an accelerator that this process does not."""
    assert placed(spec("m"), ("cpu",)) == spec("m")
    assert placed(spec("m"), ("cuda:1",)) == spec("m", device="cuda:1")
    assert placed(spec("m", devices=("cuda:0", "cuda:1")), ("cuda:1",)) == spec("m", device="cuda:1")
    spread = spec("m", device_map="sequential", devices=("cuda:0", "cuda:1"))
    assert placed(spec("m", device_map="sequential"), ("cuda:0", "cuda:1")) == spread
    mapped = spec("m", device_map={"a": "cuda:0", "b": "cuda:1"})
    assert placed(mapped, ("cuda:0", "cuda:1")) == mapped


async def test_need_of_a_spread_model_is_shared_until_it_is_measured(tmp_path: Path) -> None:
    """In equal parts; then by device, and apart from what it takes elsewhere."""
    memory = MachineMemory({}, tmp_path)
    two = ("cuda:0", "cuda:1")
    assert await memory.estimate(spec("m", memory_bytes=61), two) == {"cuda:0": 31, "cuda:1": 31}
    await memory.keep(spec("m"), {"cuda:0": 40, "cuda:1": 20})
    again = MachineMemory({}, tmp_path)
    assert await again.estimate(spec("m"), two) == {"cuda:0": 40, "cuda:1": 20}
    assert await again.estimate(spec("m"), ("cuda:0",)) is None


@pytest.mark.parametrize(
    ("visible", "totals"),
    [(None, [1000, 2000]), ("1,0", [2000, 1000]), ("GPU-bbb", [2000]), ("", []), ("-1", []), ("1,7,0", [2000])],
)
def test_gpus_are_counted_as_torch_counts_them(visible: str | None, totals: list[int]) -> None:
    """CUDA_VISIBLE_DEVICES chooses and orders; the first that does not exist ends the list."""
    found = parse_nvidia_smi(SMI, visible)
    assert list(found) == [f"cuda:{number}" for number in range(len(totals))]
    assert [memory.total_bytes // 2**20 for memory in found.values()] == totals


def test_need_is_the_headers_times_the_dtype(tmp_path: Path) -> None:
    """As stored, or as it is to be converted; integers stay as they are. And a fifth on top."""
    write_weights(tmp_path / "model.safetensors", w=("F32", [10, 10]), ids=("I64", [5]))
    assert weights_estimate(spec(tmp_path)) == 528  # (400 + 40) * 1.2
    assert weights_estimate(spec(tmp_path, dtype="bfloat16")) == 288  # (200 + 40) * 1.2


@pytest.mark.parametrize(("name", "num_bytes"), [("int8", 792), ("bitsandbytes-4bit", 739.2)])
def test_need_of_quantised_weights(tmp_path: Path, name: str, num_bytes: float) -> None:
    """The linear layers' alone: embeddings, norms and other backends' weights stay as they are. Those that are stored
    in fewer bits count as they are stored."""
    tensors = {
        "layer.0.dense.weight": ("F32", [10, 10]),
        "word_embeddings.weight": ("F32", [10, 10]),
        "norm.weight": ("F32", [20]),
        "packed.qweight": ("I32", [20]),
    }
    write_weights(tmp_path / "model.safetensors", **tensors)
    assert weights_estimate(spec(tmp_path)) == 1152  # (400 + 400 + 80 + 80) * 1.2
    assert weights_estimate(spec(tmp_path, quantization=name)) == pytest.approx(num_bytes, abs=1)
    assert weights_estimate(spec(tmp_path, quantization=name, backend="other")) == 1152


def test_need_of_shards_is_that_of_the_index(tmp_path: Path) -> None:
    """Files that it does not name are not read."""
    write_weights(tmp_path / "model-1.safetensors", a=("F16", [100]))
    write_weights(tmp_path / "model-2.safetensors", b=("F16", [100]))
    write_weights(tmp_path / "other.safetensors", c=("F16", [100_000]))
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_bytes(msgspec.json.encode(index))
    assert weights_estimate(spec(tmp_path)) == 480


def test_need_without_readable_weights_is_unknown(tmp_path: Path) -> None:
    """No files, broken files, no folder."""
    assert weights_estimate(spec(tmp_path)) is None
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 40)
    assert weights_estimate(spec(tmp_path)) is None
    assert weights_estimate(spec("acme/nothing"), lambda spec: None) is None


def test_a_hub_model_is_found_in_the_cache(tmp_path: Path) -> None:
    """By its branch or by its commit; never from the network."""
    snapshot = tmp_path / "models--acme--m" / "snapshots" / "abc"
    write_weights(snapshot / "model.safetensors", w=("F32", [10]))
    refs = tmp_path / "models--acme--m" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    assert cached_folder(spec("acme/m"), tmp_path) == snapshot
    assert cached_folder(spec("acme/m", revision="abc"), tmp_path) == snapshot
    assert cached_folder(spec("acme/m", revision="v2"), tmp_path) is None
    assert cached_folder(spec("acme/other"), tmp_path) is None
    assert weights_estimate(spec("acme/m"), lambda one: cached_folder(one, tmp_path)) == 48


async def test_a_measurement_counts_more_than_an_estimate(tmp_path: Path) -> None:
    """And outlives the server; each revision, dtype and device has its own."""
    folder, cache = tmp_path / "model", tmp_path / "cache"
    write_weights(folder / "model.safetensors", w=("F32", [10]))
    memory = MachineMemory({}, cache)
    assert await memory.estimate(spec(folder), ("cpu",)) == {"cpu": 48}
    assert await memory.estimate(spec(folder, memory_bytes=60), ("cpu",)) == {"cpu": 60}
    await memory.keep(spec(folder), {"cpu": 77})
    again = MachineMemory({}, cache)
    assert await again.estimate(spec(folder, memory_bytes=60), ("cpu",)) == {"cpu": 77}
    assert await again.estimate(spec(folder), ("cuda:0",)) == {"cuda:0": 48}
    assert await again.estimate(spec(folder, dtype="float16"), ("cpu",)) == {"cpu": 24}
    assert (await again.devices()).budgets["cpu"]


def test_broken_measurements_are_forgotten(tmp_path: Path) -> None:
    """They are written anew; a folder that cannot be written is no error."""
    path = tmp_path / "memory.json"
    path.write_text("{")
    measurements = Measurements(path)
    assert measurements.of(spec("m"), ("cpu",)) is None
    measurements.keep(spec("m"), {"cpu": 5})
    assert Measurements(path).of(spec("m"), ("cpu",)) == {"cpu": 5}
    assert [file.name for file in tmp_path.iterdir()] == ["memory.json"]
    nowhere = Measurements(path / "below-a-file" / "memory.json")
    nowhere.keep(spec("m"), {"cpu": 5})
    assert nowhere.of(spec("m"), ("cpu",)) == {"cpu": 5}


def test_bytes_are_shown_for_people() -> None:
    """With the unit that fits."""
    assert [show_bytes(number) for number in (5, 2048, 1.5 * GIB, 2**50)] == [
        "5 bytes",
        "2.0 KiB",
        "1.5 GiB",
        "1024.0 TiB",
    ]
