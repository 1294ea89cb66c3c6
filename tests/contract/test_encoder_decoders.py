"""Encoder-decoder models on a real server: their tasks, TGI's routes and OpenAI's completions, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from huggingface_hub import InferenceClient

from tests.server import RunningServer

TEXT = "john smith works in paris and mary in rome"
PARAMETERS = {"max_new_tokens": 9, "min_new_tokens": 9}
TASK_ROUTES = [
    ("/v1/text2text-generation/t5", PARAMETERS),
    ("/v1/summarization/bart", PARAMETERS),
    ("/v1/translation/mbart", {**PARAMETERS, "src_lang": "fr_XX", "tgt_lang": "de_DE"}),
    ("/v1/text2text-generation/t5", {**PARAMETERS, "num_beams": 2}),
    ("/models/bart", PARAMETERS),
]


def events_of(text: str) -> list[Any]:
    return [json.loads(line.removeprefix("data:")) for line in text.splitlines() if line.startswith("data:")]


@pytest.mark.parametrize(("path", "parameters"), TASK_ROUTES)
def test_task_streams_what_it_answers(server: RunningServer, path: str, parameters: dict[str, Any]) -> None:
    """An event for each token, the text with the last, details where they are asked for."""
    body = {"inputs": TEXT, "parameters": {**parameters, "details": True}}
    (whole,) = server.post(path, body).json()
    *parts, last = events_of(server.post(path, {**body, "stream": True}).text)
    tokens = [one["token"] for one in (*parts, last)]
    assert [one["id"] for one in tokens] == [one["id"] for one in whole["details"]["tokens"]]
    assert len(tokens) == 9 and all(one["generated_text"] is None for one in parts)
    assert last["generated_text"] in whole.values() and last["details"]["generated_tokens"] == 9


def test_text_generation_inference_of_an_encoder_decoder(server: RunningServer) -> None:
    """As its server has it for T5: `/generate` and `/generate_stream`, which need not name a task."""
    body = {"inputs": TEXT, "parameters": {"max_new_tokens": 6, "details": True}}
    whole = server.post("/generate?model=t5", body).json()
    streamed = server.post("/models/t5/generate_stream", body).text
    assert streamed.startswith("data:"), streamed
    *_, last = events_of(streamed)
    assert last["generated_text"] == whole["generated_text"]
    assert last["details"]["generated_tokens"] == whole["details"]["generated_tokens"] == 6


@pytest.mark.usefixtures("hub_is_online")
def test_python_client_streams_it(server: RunningServer) -> None:
    """`InferenceClient.text_generation` at the model's URL."""
    client = InferenceClient(f"{server.url}/models/t5")
    parts = list(client.text_generation(TEXT, max_new_tokens=6, stream=True, details=True))
    assert len(parts) == 6 and parts[-1].generated_text


def test_completions_of_an_encoder_decoder(server: RunningServer) -> None:
    """By OpenAI's SDK, the prompts of one request side by side; a chat needs a template, which the model has not."""
    prompts = [TEXT, "a good film"]
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:

        def complete(**more: Any) -> Any:
            given = {"model": "t5", "prompt": prompts, "max_tokens": 8, "temperature": 0, **more}
            return client.completions.create(**given)

        whole = complete(logprobs=1)
        texts = ["", ""]
        for part in complete(stream=True):
            texts[part.choices[0].index] += part.choices[0].text
        assert texts == [choice.text for choice in whole.choices]
        assert whole.usage.completion_tokens == 16 and whole.usage.prompt_tokens > 10
        stop = next(word for word in whole.choices[0].text.split() if len(word) > 1)
        assert stop not in complete(prompt=TEXT, stop=stop).choices[0].text
        with pytest.raises(openai.InternalServerError, match="cannot follow this model's tokenizer") as raised:
            complete(extra_body={"structured_outputs": {"choice": ["yes"]}})
        assert raised.value.status_code == 501
        with pytest.raises(openai.BadRequestError, match="no chat template"):
            client.chat.completions.create(model="t5", messages=[{"role": "user", "content": "a"}])
