"""The rival: what people write today, fairly. FastAPI around `pipeline()`, called in a thread pool.

`python -m bench.plain_fastapi TASK FOLDER --port P --threads N`. A lock keeps calls from sharing the tokenizer and
the cores at the same time (without it, it is slower and, with differing parameters, wrong).
"""

from __future__ import annotations

import argparse
import asyncio
import threading
from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response


def build_app(pipe: Any, is_embedding: bool) -> FastAPI:
    app = FastAPI()
    lock = threading.Lock()

    def embed(text: str) -> Any:
        # Mean pooling and scaling, as all-MiniLM-L6-v2 wants them. Not in batches: pipeline() keeps the padding's rows.
        vector = pipe(text, return_tensors=True, truncation=True)[0].mean(dim=0)
        return (vector / vector.norm()).numpy()

    def compute(texts: list[str]) -> list[Any]:
        with lock:
            if is_embedding:
                return [embed(text) for text in texts]
            return list(pipe(texts, top_k=None, truncation=True, batch_size=len(texts)))

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        inputs = orjson.loads(await request.body())["inputs"]
        answer = await asyncio.to_thread(compute, [inputs] if isinstance(inputs, str) else inputs)
        return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task")
    parser.add_argument("folder")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()

    import torch
    from transformers import pipeline

    torch.set_num_threads(options.threads)
    pipe = pipeline(options.task, model=options.folder, device="cpu")
    app = build_app(pipe, options.task == "feature-extraction")
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
