"""How long others wait beside a bomb: `python -m tests.hostile.neighbour`.

A server with the default limits before a scripted fleet, which answers at once; one polite client that asks again and
again; and four at a time of each of `bombs.py`. Told are the worst wait of the polite client, how long the bombs
themselves took, and what the server's memory rose by.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import psutil

from tests.hostile.bombs import BOMBS, Bomb
from tests.server import REPOSITORY

AT_ONCE = 4


class Polite:
    """Counts its answers and remembers the longest wait."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._is_over = threading.Event()
        self._has_asked = threading.Event()
        self.waits_ms: list[float] = []
        self.num_failed = 0
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self._is_over.wait(0.002):
                began = time.perf_counter()
                answer = client.post("/v1/text-classification", json={"inputs": "a good film", "model": "rev"})
                self.waits_ms.append((time.perf_counter() - began) * 1000)
                self.num_failed += answer.status_code != 200
                self._has_asked.set()

    def __enter__(self) -> Polite:
        self._thread.start()
        self._has_asked.wait(60)
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_over.set()
        self._thread.join(90)


def send(url: str, bomb: Bomb, content: bytes) -> tuple[int, float]:
    began = time.perf_counter()
    answer = httpx.post(f"{url}{bomb.path}", content=content, headers=dict(bomb.headers), timeout=120)
    return answer.status_code, (time.perf_counter() - began) * 1000


def measure(url: str, process: psutil.Process, bomb: Bomb) -> str:
    content, before = bomb.content(), process.memory_info().rss
    peak = before
    with Polite(url) as polite, ThreadPoolExecutor(AT_ONCE) as pool:
        sent = [pool.submit(send, url, bomb, content) for _ in range(AT_ONCE)]
        while not all(one.done() for one in sent):
            peak = max(peak, process.memory_info().rss)
            time.sleep(0.005)
    answers = [one.result() for one in sent]
    is_right = {status for status, _ in answers} == {bomb.status} and not polite.num_failed
    return (
        f"| {bomb.name} | {len(content):,} | {bomb.status}{'' if is_right else ' WRONG'}"
        f" | {max(took for _, took in answers):,.0f} | {max(polite.waits_ms):,.0f} | {(peak - before) / 2**20:,.0f} |"
    )


def main() -> None:
    command = [sys.executable, "-m", "tests.hostile.fake_server"]
    server = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        url = server.stdout.readline().removeprefix("serving on ").strip()
        print("| bomb | bytes | status | its answer ms | the neighbour's worst wait ms | memory MiB |")
        print("|---|---|---|---|---|---|", flush=True)
        for bomb in BOMBS:
            print(measure(url, psutil.Process(server.pid), bomb), flush=True)
    finally:
        server.terminate()
        server.wait(20)


if __name__ == "__main__":
    main()
