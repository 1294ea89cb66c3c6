"""LitServe: `python -m bench.rivals.litserve TASK FOLDER --port P --threads N --max-batch-size B --batch-timeout S`.

`batch` and `unbatch` flatten lists of texts, so that a request may bring one text or many.
"""

from __future__ import annotations

import argparse
from typing import Any

import litserve
import numpy
import orjson
from fastapi import Response

from bench.encoder import Encoder


class EncoderAPI(litserve.LitAPI):  # type: ignore[misc, unused-ignore]
    def __init__(self, task: str, folder: str, threads: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._encoder = (task, folder, threads)

    def setup(self, device: str) -> None:
        self.encode = Encoder(*self._encoder)

    def decode_request(self, request):  # type: ignore[no-untyped-def, unused-ignore]  # LitServe reads annotations
        inputs = request["inputs"]
        return [inputs] if isinstance(inputs, str) else inputs

    def batch(self, inputs: list[list[str]]) -> list[list[str]]:
        return inputs

    def predict(self, requests: list[list[str]]) -> list[list[Any]]:
        answers = iter(self.encode([text for texts in requests for text in texts]))
        return [[next(answers) for _ in texts] for texts in requests]

    def unbatch(self, output: list[list[Any]]) -> list[list[Any]]:
        return output

    def encode_response(self, output: list[Any]) -> Response:
        rows = [row.astype(numpy.float32) if isinstance(row, numpy.ndarray) else row for row in output]
        body = orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY)  # FastAPI's own encoder takes 50 times as long
        return Response(body, media_type="application/json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task")
    parser.add_argument("folder")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--max-batch-size", type=int, required=True)
    parser.add_argument("--batch-timeout", type=float, required=True)
    options = parser.parse_args()
    api = EncoderAPI(
        options.task,
        options.folder,
        options.threads,
        max_batch_size=options.max_batch_size,
        batch_timeout=options.batch_timeout,
        api_path="/predict",
    )
    server = litserve.LitServer(api, accelerator="cpu", timeout=False, track_requests=False)
    server.run(host="127.0.0.1", port=options.port, num_api_servers=1, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
