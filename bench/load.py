"""A load generator in a process of its own: that of `pipeserve bench`, or wrk. It says how much CPU it takes.

`python -m bench.load URL --concurrency N --seconds S --bodies FILE` prints one JSON line. Closed loop: each client
sends its next request when the last is answered. `--rate R`: open loop, R requests a second whatever the answers do,
each latency counted from when its request was due. `--wrk`: the closed loop by wrk, written in C, for rates at which
Python would be measured. It is run as a process of its own, so that its CPU time is known and its GIL nobody else's.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import resource
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from app.benchmark.connection import encode_requests
from app.benchmark.loops import Effort, cpu_s, raise_file_limit, run_closed_loop, run_open_loop
from app.benchmark.tally import Figures

WRK_SCRIPT = Path(__file__).with_name("wrk.lua")


def has_wrk() -> bool:
    return shutil.which("wrk") is not None


def run_wrk(url: str, bodies: Path, concurrency: int, seconds: float) -> Figures:
    """What is not answered at the end is left out: not for answers that take as long as the measurement."""
    command = ["wrk", "-t1", f"-c{concurrency}", f"-d{max(1, round(seconds))}s", "--timeout", "60s"]
    command += ["-s", str(WRK_SCRIPT), url, "--", str(bodies)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(printed.strip().splitlines()[-1])
    elapsed_s = found["duration_us"] / 1e6
    num_answered = found["num_requests"] - found["num_bad_status"]
    num_failed = found["num_bad_status"] + found["num_broken"]
    return Figures(
        client="wrk",
        concurrency=concurrency,
        requests_per_s=num_answered / elapsed_s,
        p50_ms=found["p50_us"] / 1000,
        p90_ms=found["p90_us"] / 1000,
        p99_ms=found["p99_us"] / 1000,
        num_answered=num_answered,
        num_failed=num_failed,
        first_failure="wrk does not tell" if num_failed else "",
        num_refused=0,
        client_cpu=cpu_s(resource.RUSAGE_CHILDREN) / elapsed_s,
        elapsed_s=elapsed_s,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--rate", type=float, help="requests a second, at a constant rate")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--bodies", type=Path, required=True, help="a file with one JSON body per line")
    parser.add_argument("--base64", action="store_true", help="each line is a raw body in base64")
    parser.add_argument("--key", help="an API key")
    parser.add_argument("--wrk", action="store_true", help="the closed loop by wrk")
    options = parser.parse_args()
    raise_file_limit()
    bodies = options.bodies.read_bytes().splitlines()
    if options.base64:
        bodies = [base64.b64decode(line) for line in bodies]
    requests = encode_requests(options.url, bodies, options.key)
    effort = Effort(seconds=options.seconds)
    if options.wrk:
        found = run_wrk(options.url, options.bodies, options.concurrency, options.seconds)
    elif options.rate:
        found = asyncio.run(run_open_loop(options.url, requests, options.rate, effort))
    else:
        found = asyncio.run(run_closed_loop(options.url, requests, options.concurrency, effort))
    sys.stdout.write(json.dumps(asdict(found)) + "\n")


if __name__ == "__main__":
    main()
