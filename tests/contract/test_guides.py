"""The commands of the quick start and of the guides for who comes from another server, against a real one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from app.tasks.curl import FILES
from tests.server import RunningServer

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
PAGES = ["quickstart.md", "quickstart.zh.md", *(f"migrating/{name}.md" for name in ("tgi", "tei", "vllm"))]
PAGES += ["migrating/transformers-serve.md", "migrating/torchserve.md"]
NAMES = {
    '"model": "chat"': '"model": "llama-chat"',
    "Qwen/Qwen3-0.6B": "llama-chat",
    "FacebookAI/roberta-large-mnli": "acme/reviews",
    "text-classification/reviews": "text-classification/acme/reviews",
}
"""What the pages call models, and those that do the same here."""


def commands() -> list[str]:
    """Each curl command that asks this server, comments left out, lines that go on joined."""
    found = []
    for page in PAGES:
        text = (DOCS / page).read_text()
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            lines = [line for line in block.replace("\\\n", " ").splitlines() if not line.rstrip().endswith("# before")]
            found += [re.sub(r"\s+# .*$", "", line) for line in lines if line.startswith("curl http://127.0.0.1:")]
    return found


def test_commands_are_answered(server: RunningServer, tmp_path: Path) -> None:
    """As they stand on the page, but for the port and models' names: none ends in an error."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    asked = commands()
    assert len(asked) > 14
    for command in asked:
        here = re.sub(r"http://127\.0\.0\.1:\d+", server.url, command).replace("curl ", "curl -sS --fail-with-body ", 1)
        for name, ours in NAMES.items():
            here = here.replace(name, ours)
        done = subprocess.run(["bash", "-c", here], cwd=tmp_path, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0 and done.stdout, (here, done.stdout[:500], done.stderr)
