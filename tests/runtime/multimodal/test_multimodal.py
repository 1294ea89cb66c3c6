"""Captions, questions about images, conversations with files, decisions: against transformers on the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from transformers import AutoModelForVisualQuestionAnswering, AutoTokenizer, pipeline

from app.errors import InvalidInput
from app.runtime.base import Stages
from app.tasks.registry import TASKS
from app.tasks.requests import RequestParser
from app.tasks.samples import PNG, PNG_BASE64, WAV, WAV_BASE64
from tests import tiny
from tests.runtime.compute import Job, answer, answer_together, load
from tests.runtime.vision.images import picture, png
from tests.tiny.vision import processor_of

PICTURES = [picture(64, 48, 1), picture(64, 48, 2), picture(40, 60, 3)]
FILES = [png(one) for one in PICTURES]
QUESTIONS = ["what is it ?", "who lives in the house ?", "two"]
TOKENS = {"max_new_tokens": 6}


@pytest.fixture(scope="module")
def stages(tiny_dir: Path) -> dict[str, Stages]:
    from tests.tiny.multimodal import TASKS as TASK_OF

    return {name: load(tiny.build(name, tiny_dir), task).stages(task) for name, task in TASK_OF.items()}


def chat(file: bytes, text: str) -> dict[str, Any]:
    content = [{"type": "image", "image": file}, {"type": "text", "text": text}]
    return {"messages": [{"role": "user", "content": content}]}


def text_of(written: Any) -> str:
    (one,) = written
    return str(one["generated_text"]).strip()


def assert_same_among_strangers(stages: Stages, jobs: list[Job]) -> None:
    """Texts equal; scores to 1e-5, since a batch changes the order in which float32 are summed."""
    for (inputs, parameters), answers in zip(jobs, answer_together(stages, jobs), strict=True):
        for one_input, given in zip(inputs, answers, strict=True):
            alone = answer(stages, one_input, parameters)
            assert [{**one, "score": 0} for one in given] == [{**one, "score": 0} for one in alone]
            scores = [one.get("score", 0) for one in alone]
            assert [one.get("score", 0) for one in given] == pytest.approx(scores, abs=1e-5)


@pytest.mark.parametrize("name", ["captioner", "blip"])
def test_caption_is_what_the_model_writes(stages: dict[str, Stages], tiny_dir: Path, name: str) -> None:
    """By `generate` on the same pixels, one image at a time; and in company."""
    from transformers import AutoModelForImageTextToText

    folder = tiny.build(name, tiny_dir)
    model, tokenizer = AutoModelForImageTextToText.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    kind = "ViTImageProcessor" if name == "captioner" else "BlipImageProcessor"
    processor = processor_of(kind).from_pretrained(folder)
    for file, image in zip(FILES, PICTURES, strict=True):
        pixels = processor(images=image, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            tokens = model.generate(pixel_values=pixels, max_new_tokens=6)
        expected = tokenizer.decode(tokens[0], skip_special_tokens=True).strip()
        assert text_of(answer(stages[name], file, TOKENS)) == expected
    assert_same_among_strangers(stages[name], [(FILES, TOKENS), (FILES[:1], {"max_new_tokens": 2})])


@pytest.mark.parametrize("name", ["captioner", "blip", "llava"])
def test_answer_has_as_many_tokens_as_there_is_room_for(stages: dict[str, Stages], name: str) -> None:
    """Unless said otherwise as long as the model says; who asks for more than fits is told."""
    asked = chat(FILES[0], "a") if name == "llava" else FILES[0]
    assert answer(stages[name], asked)
    with pytest.raises(InvalidInput, match="max_new_tokens: there is room for"):
        stages[name].prepare([asked], {"max_new_tokens": 5000})


def test_javascript_gets_a_caption_as_an_object() -> None:
    """Where Python's client wants a list of one."""
    task = TASKS["image-to-text"]
    fragment = orjson.dumps([{"generated_text": "a cat"}])
    assert task.assemble_for_javascript is not None
    assert orjson.loads(task.assemble_for_javascript([fragment], is_list=False)) == {"generated_text": "a cat"}
    assert orjson.loads(task.assemble([fragment], is_list=False)) == [{"generated_text": "a cat"}]


def test_question_about_an_image_is_answered_by_the_head(stages: dict[str, Stages], tiny_dir: Path) -> None:
    """The best labels by their sigmoid, as transformers 4.57 answered."""
    folder = tiny.build("vilt", tiny_dir)
    model = AutoModelForVisualQuestionAnswering.from_pretrained(folder).eval()
    tokenizer, processor = AutoTokenizer.from_pretrained(folder), processor_of("ViltImageProcessor")
    processor = processor.from_pretrained(folder)
    for file, image in zip(FILES, PICTURES, strict=True):
        inputs = {**tokenizer(QUESTIONS[0], return_tensors="pt"), **processor(images=image, return_tensors="pt")}
        with torch.inference_mode():
            scores = model(**inputs).logits[0].sigmoid()
        best = scores.topk(3)
        given = answer(stages["vilt"], {"image": file, "question": QUESTIONS[0]}, {"top_k": 3})
        assert [one["answer"] for one in given] == [model.config.id2label[int(index)] for index in best.indices]
        assert [one["score"] for one in given] == pytest.approx(best.values.tolist(), abs=1e-5)
    asked = [{"image": file, "question": question} for file in FILES for question in QUESTIONS]
    assert_same_among_strangers(stages["vilt"], [(asked, {}), (asked[:2], {"top_k": 1})])
    with pytest.raises(InvalidInput, match="max_new_tokens: this model chooses"):
        stages["vilt"].prepare(asked[:1], TOKENS)


def test_conversation_with_an_image_goes_on_as_in_the_pipeline(stages: dict[str, Stages], tiny_dir: Path) -> None:
    """Chats, and an image with a text; alone and in company."""
    pipe = pipeline("image-text-to-text", model=str(tiny.build("llava", tiny_dir)), device="cpu")
    for file, image in zip(FILES, PICTURES, strict=True):
        for question in QUESTIONS:
            messages = [
                {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": question}]}
            ]
            expected = pipe(text=messages, max_new_tokens=6, do_sample=False, return_full_text=False)
            assert (
                text_of(answer(stages["llava"], chat(file, question), TOKENS)) == expected[0]["generated_text"].strip()
            )
    plain = {"images": [FILES[0]], "text": "<image> what is it ?"}
    expected = pipe(images=[PICTURES[0]], text="<image> what is it ?", max_new_tokens=6, return_full_text=False)
    assert text_of(answer(stages["llava"], plain, TOKENS)) == expected[0]["generated_text"].strip()
    chats = [chat(file, question) for file in FILES for question in QUESTIONS]
    assert_same_among_strangers(stages["llava"], [(chats, TOKENS), (chats[:2], {"max_new_tokens": 3})])


def test_full_text_is_the_conversation_without_its_files(stages: dict[str, Stages]) -> None:
    """What was sent comes back as words."""
    (one,) = answer(stages["llava"], chat(FILES[0], "two"), {**TOKENS, "return_full_text": True})
    assert [message["role"] for message in one["generated_text"]] == ["user", "assistant"]
    assert one["input_text"][0]["content"][0] == {"type": "image", "image": "(file)"}


def test_model_of_conversations_also_captions_and_answers(tiny_dir: Path) -> None:
    """image-text-to-text implies both."""
    implied = TASKS["image-text-to-text"].implies
    model = load(tiny.build("llava", tiny_dir), "image-text-to-text", implied_tasks=implied)
    assert text_of(answer(model.stages("image-to-text"), FILES[0], TOKENS))
    asking = model.stages("visual-question-answering")
    (given,) = answer(asking, {"image": FILES[0], "question": "two"}, TOKENS)
    assert given["answer"] == text_of(answer(model.stages("image-text-to-text"), chat(FILES[0], "two"), TOKENS))
    assert 0 < given["score"] <= 1


def test_conversation_with_a_sound_goes_on_as_in_the_pipeline(stages: dict[str, Stages], tiny_dir: Path) -> None:
    """any-to-any, by a model that hears."""
    import io

    import soundfile

    samples, _ = soundfile.read(io.BytesIO(WAV), dtype="float32")
    pipe = pipeline("any-to-any", model=str(tiny.build("qwen2-audio", tiny_dir)), device="cpu")
    for question in QUESTIONS:
        messages = [
            {"role": "user", "content": [{"type": "audio", "audio": samples}, {"type": "text", "text": question}]}
        ]
        expected = pipe(text=messages, max_new_tokens=6, do_sample=False, return_full_text=False)
        asked = {"messages": [{"role": "user", "content": [
            {"type": "audio", "audio": WAV}, {"type": "text", "text": question}
        ]}]}  # fmt: skip
        assert text_of(answer(stages["qwen2-audio"], asked, TOKENS)) == expected[0]["generated_text"].strip()
    with pytest.raises(InvalidInput, match="sees no images"):
        stages["qwen2-audio"].prepare([chat(FILES[0], "a")], {})


def test_decisions_are_the_pipelines(stages: dict[str, Stages], tiny_dir: Path) -> None:
    """Each type of question, with its probabilities."""
    pipe = pipeline("decision", model=str(tiny.build("decider", tiny_dir)), device="cpu")
    request = {
        "state": "the film was good",
        "questions": {
            "is_good": {"type": "noul", "instructions": "is it good ?"},
            "what": {"type": "choice", "criteria": {"film": "a movie", "book": "a story"}},
            "how": {"type": "score", "criteria": ["bad", "good", "great"]},
        },
    }
    assert answer(stages["decider"], request) == pipe(request)


@pytest.mark.parametrize(
    ("task", "body", "param"),
    [
        ("image-text-to-text", {"inputs": []}, "inputs"),
        ("image-text-to-text", {"inputs": [{"role": "user"}]}, "inputs.messages"),
        ("image-text-to-text", {"inputs": [{"role": "user", "content": [{"type": "smell"}]}]}, "inputs.messages"),
        ("image-text-to-text", {"inputs": {"messages": []}}, "inputs"),
        ("any-to-any", {"inputs": "a", "parameters": {"generation_mode": "image"}}, "parameters.generation_mode"),
        ("visual-question-answering", {"inputs": {"image": PNG_BASE64}}, "inputs.question"),
        ("decision", {"inputs": {"state": "a"}}, "inputs.questions"),
        ("decision", {"inputs": {"state": "a", "questions": {"b": {"type": "guess"}}}}, "inputs.questions"),
    ],
)
def test_wrong_request_names_its_place(task: str, body: dict[str, Any], param: str) -> None:
    """Before a worker sees it."""
    with pytest.raises(InvalidInput) as caught:
        RequestParser(TASKS[task]).parse(body)
    assert str(caught.value.param).startswith(param)


def test_parts_are_read_as_each_dialect_writes_them() -> None:
    """OpenAI's image_url and input_audio, Hugging Face's url and base64."""
    uri = f"data:image/png;base64,{PNG_BASE64}"
    parts = [
        {"type": "image_url", "image_url": {"url": uri}},
        {"type": "image", "url": uri},
        {"type": "image", "base64": PNG_BASE64},
        {"type": "input_audio", "input_audio": {"data": WAV_BASE64, "format": "wav"}},
    ]
    body = {"messages": [{"role": "user", "content": parts}]}
    (parsed,) = RequestParser(TASKS["any-to-any"]).parse(body).inputs
    files = [part.get("image") or part.get("audio") for part in parsed["messages"][0]["content"]]
    assert files == [PNG, PNG, PNG, WAV]


def test_decision_without_criteria_is_refused(stages: dict[str, Stages]) -> None:
    """The pipeline's own sentence, as the client's mistake."""
    with pytest.raises(InvalidInput, match=r"inputs\[0\]"):
        stages["decider"].prepare([{"state": "a", "questions": {"b": {"type": "choice"}}}], {})
