"""A search by meaning, with many requests at once, by OpenAI's SDK: `pip install openai numpy`."""

import asyncio
import os

import numpy as np
from openai import AsyncOpenAI

URL = os.environ.get("PIPESERVE_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("PIPESERVE_API_KEY", "none")
MODEL = "all-MiniLM-L6-v2"
SENTENCES = [
    "A kitten is resting on a rug.",
    "The central bank raised interest rates.",
    "Bread is baked in the early morning.",
    "The match ended without a goal.",
]
QUESTIONS = ["Where is the cat?", "What does money cost?", "Who won the football game?"]


async def main() -> None:
    async with AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY) as client:

        async def embed(texts: list[str]) -> np.ndarray:
            answer = await client.embeddings.create(model=MODEL, input=texts)
            return np.array([one.embedding for one in answer.data])

        known = await embed(SENTENCES)
        # One request each, at the same time: the server computes them together.
        asked = await asyncio.gather(*(embed([question]) for question in QUESTIONS))
    for question, vector in zip(QUESTIONS, asked, strict=True):
        near = (known @ vector[0]).argmax()
        print(f"{question} -> {SENTENCES[near]}")


asyncio.run(main())
