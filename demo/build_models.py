"""Build the demo's models under .cache/demo: `python -m demo.build_models`. Once, and again when their code changes."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / ".cache" / "demo"


def build(folder: Path = FOLDER) -> Path:
    """The folder with all models in it; made beside it and moved there when whole."""
    stamp, sources = folder / "built-from", fingerprint()
    if stamp.is_file() and stamp.read_text() == sources:
        return folder
    fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
    fresh.mkdir(parents=True)
    try:
        _build_all(fresh)
        (fresh / stamp.name).write_text(sources)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def fingerprint() -> str:
    """Changes when the code or the sentences do."""
    sources = sorted(path for path in HERE.glob("*.py") if path.name != "run.py")
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _build_all(folder: Path) -> None:
    """One process a core, one thread each: faster than threads on models this small, and alike on every machine."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from demo import shapes  # here, because torch takes seconds
    from demo.recipes import RECIPES, make, prepare_process
    from demo.training import minilm_folder

    began = time.monotonic()
    shutil.copytree(minilm_folder(), folder / "all-MiniLM-L6-v2")
    shapes.picture(shapes.STAR_SEED, 256)[0].save(folder / "star.png")
    print(f"training {len(RECIPES)} small models, about a minute...", file=sys.stderr, flush=True)
    processes = min(os.cpu_count() or 1, len(RECIPES))
    with ProcessPoolExecutor(processes, get_context("spawn"), prepare_process) as pool:
        seconds = pool.map(make, RECIPES, [folder / name for name in RECIPES])
        for (name, recipe), took in zip(RECIPES.items(), seconds, strict=True):
            print(f"  {name} ({recipe.task}): {took:.0f} s", file=sys.stderr, flush=True)
    print(f"built the demo's models in {time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    build()
