"""Routes of FastAPI that compute nothing: `python -m bench.rivals.noop --port P`.

`/predict` as people write it, `/lean` with as little of FastAPI as there can be.
"""

from __future__ import annotations

import argparse
from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

ANSWER = [{"label": "POSITIVE", "score": 0.75}, {"label": "NEGATIVE", "score": 0.25}]
app = FastAPI()


class Body(BaseModel):
    inputs: str
    parameters: dict[str, Any] = {}


@app.post("/predict")
async def predict(body: Body) -> list[dict[str, Any]]:
    return ANSWER


@app.post("/lean")
async def lean(request: Request) -> Response:
    orjson.loads(await request.body())
    return Response(orjson.dumps(ANSWER), media_type="application/json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
