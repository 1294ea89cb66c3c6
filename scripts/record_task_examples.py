"""Asks a real server every task's example and keeps its answers, with a picture of each, for the tasks' pages:
`python -m scripts.record_task_examples [TASK...]`, then `python -m scripts.generate_tasks_reference`.

The models are those of `make demo` where one of them does the task, else the tests' tiny ones of random weights. What
the pages print runs here as it stands there: the curl command and the lines of Python.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from app.tasks.base import Task
from app.tasks.curl import FILES, curl_of
from app.tasks.registry import TASKS
from demo.build_models import build as build_demo_models
from scripts.generate_tasks_reference import ANSWERS, FOLDER
from scripts.pictures import picture
from scripts.python_example import METHOD_NAMES, python_of
from tests import models, tiny
from tests.server import REPOSITORY, RunningServer

DEMO = {
    "all-MiniLM-L6-v2": "feature-extraction",
    "chat": "text-generation",
    "entities": "token-classification",
    "questions": "question-answering",
    "reviews": "text-classification",
    "shapes": "image-classification",
    "topics": "zero-shot-classification",
    "words": "fill-mask",
}
IMPLIED = {"sentence-similarity": "all-MiniLM-L6-v2"}
OF_TEXTS = {"cross-encoder": "text-ranking", "table-question-answering": "table-question-answering"}
PREFERRED = {"automatic-speech-recognition": "whisper"}
LONGEST_TEXT = 60


def main(names: list[str]) -> None:
    build_demo_models()
    recorded = json.loads(ANSWERS.read_text()) if ANSWERS.exists() else {}
    (FOLDER / "pictures").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, content in FILES.items():
            Path(name).write_bytes(content)
        entries = declared(Path(folder))
        by_id = {entry["id"]: entry for entry in entries.values()}
        Path("models.yaml").write_text(json.dumps({"models": list(by_id.values())}))
        with RunningServer(Path(folder, "models.yaml"), cache_dir=Path(folder)) as server:
            for name in names or TASKS:
                recorded[name] = record(TASKS[name], server, entries[name]["id"])
                print(name, flush=True)  # noqa: T201  # a command that takes a while
    ANSWERS.write_text(json.dumps({name: recorded[name] for name in TASKS}, indent=1, ensure_ascii=False) + "\n")


def declared(cache: Path) -> dict[str, dict[str, Any]]:
    """The entry that does each task, by task."""
    demo = {task: (name, REPOSITORY / ".cache" / "demo" / name) for name, task in DEMO.items()}
    found = {task: {"id": name, "task": task, "model": str(folder)} for task, (name, folder) in demo.items()}
    for name, task in OF_TEXTS.items():
        found[task] = {"id": name, "task": task, "model": str(models.build(name, cache))}
    for name, task in sorted(tiny.TASK_OF.items(), key=lambda one: one[0] not in PREFERRED.values()):
        if task not in found:
            found[task] = {"id": name, "task": task, "model": str(tiny.build(name, cache))}
    return {**found, **{task: next(e for e in found.values() if e["id"] == name) for task, name in IMPLIED.items()}}


def record(task: Task, server: RunningServer, model_id: str) -> dict[str, Any]:
    """Raises where anything that the page prints does not run."""
    command = curl_of(task, server.url).replace("curl -s ", "curl -sS --fail-with-body ")
    subprocess.run(["bash", "-c", command], check=True, capture_output=True, timeout=120)
    if task.name in METHOD_NAMES:
        script = python_of(task, server.url)
        environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=120, env=environment)
    response = server.post(f"/v1/{task.name}", task.example.body, headers={"accept": "application/json"})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert response.headers["x-model"] == model_id, response.headers["x-model"]
    (FOLDER / "pictures" / f"{task.name}.svg").write_text(picture(task, task.example.body, answer))
    made_by = "all-MiniLM-L6-v2" if model_id == "all-MiniLM-L6-v2" else "demo" if model_id in DEMO else "random"
    return {"asked": curl_of(task), "made_by": made_by, "answer": cut(answer)}


def cut(value: Any) -> Any:
    """Long lists, and files in base64, by their beginning; numbers to four places."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT or " " in value else value[:12] + "..."
    if isinstance(value, list):
        if len(value) > 4 and isinstance(value[0], int | float | list):
            return [*(cut(one) for one in value[:2]), f"... {len(value)} in all"]
        return [cut(one) for one in value[:4]] + ([f"... {len(value)} in all"] if len(value) > 4 else [])
    if isinstance(value, dict):
        return {key: cut(one) for key, one in value.items()}
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main(sys.argv[1:])
