"""Write docs/images/: the pages of the demo's server, as a browser shows them. `python -m scripts.take_screenshots`

Needs the extra `ui`, playwright, and a Chromium: Debian's, or `python -m playwright install chromium`.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from demo.run import LOG, REPOSITORY, REQUESTS, free_port, send, stop, wait_until_ready

IMAGES = REPOSITORY / "docs" / "images"
_SIZE = {"width": 1200, "height": 760}
_QUALITY = 82
_WAIT_MS = 90_000  # the pages' process imports Gradio first


def main() -> None:
    subprocess.run([sys.executable, "-m", "demo.build_models"], cwd=REPOSITORY, check=True)
    port = free_port(8000)
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "app", "serve", "--models", "demo/models.yaml", "--host", "127.0.0.1"]
    with LOG.open("w") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=REPOSITORY,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            stdout=log,
            stderr=log,
        )
    try:
        wait_until_ready(url, server)
        for request in REQUESTS:
            send(request, url)  # so that there is something to be seen
        take(url)
    finally:
        stop(server)


def take(url: str) -> None:
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        context = chromium.new_context(base_url=url, viewport=_SIZE, color_scheme="light")
        page = context.new_page()
        page.goto("/ui/", wait_until="commit", timeout=_WAIT_MS)
        page.locator(".ps-card").first.wait_for(timeout=_WAIT_MS)
        write(page, "catalogue")
        page.goto("/ui/model?id=entities")
        box = page.get_by_label("Input", exact=True)
        box.wait_for(timeout=_WAIT_MS)
        box.fill("Angela Merkel flew from Hamburg to Paris.")
        page.get_by_role("button", name="Compute").click()
        page.locator(".ps-result .ps-answer").wait_for(timeout=_WAIT_MS)
        write(page, "model")
        chromium.close()


def write(page: Any, name: str) -> None:
    page.mouse.move(0, 0)
    page.wait_for_timeout(1000)  # transitions
    path: Path = IMAGES / f"{name}.webp"
    path.parent.mkdir(exist_ok=True)
    Image.open(io.BytesIO(page.screenshot())).save(path, "WEBP", quality=_QUALITY, method=6)
    print(f"{path.relative_to(REPOSITORY)}: {path.stat().st_size / 1000:.0f} kB")  # noqa: T201


if __name__ == "__main__":
    main()
