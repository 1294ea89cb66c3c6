"""Ray Serve: `python -m bench.rivals.ray TASK FOLDER --port P --threads N --max-batch-size B --batch-timeout S`."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from typing import Any

import orjson
from ray import init, serve, shutdown
from ray.serve.config import HTTPOptions
from starlette.requests import Request
from starlette.responses import Response

from bench.encoder import Encoder

_LOGGING = {"enable_access_log": False}


def build(task: str, folder: str, threads: int, max_batch_size: int, batch_timeout_s: float) -> Any:
    @serve.deployment(
        num_replicas=1, max_ongoing_requests=4096, ray_actor_options={"num_cpus": 1}, logging_config=_LOGGING
    )
    class EncoderDeployment:
        def __init__(self) -> None:
            self.encode = Encoder(task, folder, threads)

        @serve.batch(max_batch_size=max_batch_size, batch_wait_timeout_s=batch_timeout_s)  # type: ignore[untyped-decorator, unused-ignore]
        async def predict(self, requests: list[list[str]]) -> list[list[Any]]:
            answers = iter(self.encode([text for texts in requests for text in texts]))
            return [[next(answers) for _ in texts] for texts in requests]

        async def __call__(self, request: Request) -> Response:
            if request.method == "GET":  # the deployment is there: Ray's own health route speaks of its proxy
                return Response(b"ready")
            inputs = orjson.loads(await request.body())["inputs"]
            answers = await self.predict([inputs] if isinstance(inputs, str) else inputs)
            body = orjson.dumps(answers, option=orjson.OPT_SERIALIZE_NUMPY)
            return Response(body, media_type="application/json")

    return EncoderDeployment.bind()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task")
    parser.add_argument("folder")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--max-batch-size", type=int, required=True)
    parser.add_argument("--batch-timeout", type=float, required=True)
    options = parser.parse_args()
    over = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: over.set())
    init(include_dashboard=False, object_store_memory=256 * 2**20, log_to_driver=False)
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=options.port), logging_config=_LOGGING)
    settings = (options.threads, options.max_batch_size, options.batch_timeout)
    serve.run(build(options.task, options.folder, *settings), route_prefix="/predict")
    over.wait()
    serve.shutdown()
    shutdown()
    sys.exit(0)


if __name__ == "__main__":
    main()
