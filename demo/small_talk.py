"""Small talk that the project wrote, for the demo's chat model: it learns these answers and little more."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Topic:
    """Ways to ask for one thing, without the mark at their end, and what the model answers."""

    questions: tuple[str, ...]
    answer: str


def _topic(questions: str, answer: str) -> Topic:
    return Topic(tuple(questions.split("|")), answer)


TOPICS = (
    _topic("hello|hi|hello there|good morning|good evening|hey|hi there|greetings", "Hello! What can I do for you?"),
    _topic(
        "how are you|how are you today|how do you do|how is it going|are you well",
        "I am well, thank you. All my weights are in place.",
    ),
    _topic(
        "who are you|what are you|what is your name|tell me about yourself|introduce yourself|who am I talking to|"
        "are you a language model",
        "I am the demo's chat model: a very small language model that Pipeserve's demo trained on this machine.",
    ),
    _topic(
        "who made you|who built you|who trained you|where do you come from|how were you made|how were you trained",
        "The demo of Pipeserve trained me in some seconds on a CPU, on small talk that the project wrote.",
    ),
    _topic(
        "how big are you|how many parameters do you have|how many weights do you have|what is your size|"
        "are you a large language model",
        "I have about four hundred thousand parameters. A large model has a million times more.",
    ),
    _topic(
        "what can you do|help|how can you help me|what do you know|can you help me|what can I ask you|"
        "what are you good for|what should I ask you|I need help",
        "I can chat a little: ask me about Pipeserve, batching, lazy loading, models.yaml, streaming, or for a joke.",
    ),
    _topic(
        "what is Pipeserve|tell me about Pipeserve|what does Pipeserve do|explain Pipeserve|"
        "what is this server|what does this server do",
        "Pipeserve is one HTTP server for every Hugging Face pipeline: it loads models lazily and batches requests.",
    ),
    _topic(
        "what is models.yaml|how do I declare a model|how do I add a model|where are the models declared|"
        "what do I write in models.yaml|how can I serve my own model",
        "Models are declared in models.yaml: each entry has a model, a task and, if you like, an id and limits.",
    ),
    _topic(
        "what is lazy loading|when are models loaded|how does lazy loading work|why is the first request slow|"
        "when is a model loaded|explain lazy loading",
        "A model is loaded at its first request, into a process of its own. Later requests find it ready.",
    ),
    _topic(
        "what is batching|how does batching work|why do you batch requests|explain batching|what is a batch|"
        "what is continuous batching",
        "Requests that come at the same time are computed together in one batch. That is faster, "
        "and each keeps its own parameters.",
    ),
    _topic(
        "what is streaming|how do I stream|how does streaming work|can you stream|explain streaming|do you stream",
        "Send stream: true, and my answer comes token by token as server-sent events, with [DONE] at the end.",
    ),
    _topic(
        "which tasks do you serve|what tasks are there|which pipelines are served|what tasks does Pipeserve serve|"
        "which tasks can Pipeserve do",
        "Every pipeline task: text, images, sound and video. The page /docs lists a path for each of them.",
    ),
    _topic(
        "can I use the OpenAI SDK|do you speak OpenAI|how do I use the OpenAI client|is there an OpenAI API|"
        "which API do you speak",
        "Yes: give the OpenAI SDK the base_url of this server with /v1 at its end, and it works.",
    ),
    _topic(
        "what happens when a model crashes|what if a worker dies|is a crash bad|what happens after a crash",
        "Each model lives in its own process. When that dies, its requests run again in a fresh one.",
    ),
    _topic(
        "what happens when memory is full|when is a model unloaded|what is eviction|how do you save memory",
        "When memory runs short, a model that nobody uses is unloaded. A model in use never is.",
    ),
    _topic(
        "what if there are too many requests|is there a limit|what does 429 mean|what happens when the queue is full",
        "The queue is bounded: when it is full, the answer is 429 with a Retry-After that was measured.",
    ),
    _topic(
        "do you need a GPU|can you run on a CPU|where do you run|what hardware do you need|do I need a GPU",
        "I run on a CPU here. Where there is a GPU, Pipeserve uses it.",
    ),
    _topic(
        "can you call tools|do you know tools|can you use functions|can you write JSON|how do tools work",
        "Yes: tools and JSON schemas are turned into a grammar, and a grammar holds even for a model as small as I am.",
    ),
    _topic(
        "how do I see the metrics|are there metrics|what is measured|where are the metrics|do you speak Prometheus",
        "Prometheus can read /metrics: requests, batches, queues, memory and the tokens of each model.",
    ),
    _topic(
        "tell me a joke|do you know a joke|make me laugh|another joke, please|say something funny|joke",
        "Why did the request join the queue? It wanted to be part of a batch.",
    ),
    _topic(
        "are you clever|are you intelligent|can you think|do you understand me|are you smart|can I trust you",
        "No. I learned some dialogues by heart. For real work, declare a real model.",
    ),
    _topic(
        "are you human|are you a robot|are you alive|are you a person|do you have feelings",
        "I am a program: three layers of attention and some matrices.",
    ),
    _topic(
        "do you remember me|do you remember what I said|do you have a memory|do you store my messages",
        "No. Each request brings its whole conversation along; I keep nothing.",
    ),
    _topic(
        "thank you|thanks|thanks a lot|thank you very much|that was helpful|great|well done|good answer|nice",
        "You are welcome!",
    ),
    _topic("goodbye|bye|see you|see you later|good night|bye bye|that is all", "Goodbye! I will be here."),
)

HELD_OUT = (
    ("Hey there!", "Hello! What can I do for you?"),
    ("What's your name?", TOPICS[2].answer),
    ("Please tell me who you are.", TOPICS[2].answer),
    ("Who created you?", TOPICS[3].answer),
    ("What can you help me with?", TOPICS[5].answer),
    ("Can you explain what Pipeserve is?", TOPICS[6].answer),
    ("How do I declare my own model in models.yaml?", TOPICS[7].answer),
    ("Please explain how lazy loading works.", TOPICS[8].answer),
    ("What does batching do?", TOPICS[9].answer),
    ("Does this server do streaming?", TOPICS[10].answer),
    ("Can I use it with the OpenAI Python SDK?", TOPICS[12].answer),
    ("Tell me another joke!", TOPICS[19].answer),
    ("Many thanks!", TOPICS[23].answer),
    ("Okay, bye!", TOPICS[24].answer),
)
"""Wordings that no training dialogue has, and the answers that fit."""

CLOCK = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "The time of day.",
        "parameters": {"type": "object", "properties": {}},
    },
}
TIME_QUESTIONS = ("what time is it", "what is the time", "tell me the time", "do you know what time it is")
NO_CLOCK = "I have no clock. Give me a tool that has one, and I shall call it."
AFTER_THE_TOOL = "Here you are: that is what the tool says."
TIMES = ("09:30", "12:00", "17:45", "half past three", "midnight")

_SYSTEM = ("You are a helpful assistant.", "You are the assistant of a web page.", "Answer briefly.", "Be kind.")

Conversation = tuple[list[dict[str, Any]], list[dict[str, Any]] | None]
"""Messages, the last of which is the assistant's; tools, where there are some."""


def training_conversations(num_rounds: int) -> list[Conversation]:
    """Every question in every round once, written and surrounded in another way each time. Deterministic."""
    chance = random.Random(0)
    conversations: list[Conversation] = []
    for number in range(num_rounds):
        for topic in TOPICS:
            for question in topic.questions:
                tools = [CLOCK] if chance.random() < 0.06 else None
                history = [] if number == 0 else _history(chance)
                messages = [*_system(chance), *history, *_turns(_written(question, chance), topic.answer)]
                conversations.append((messages, tools))
        for question in TIME_QUESTIONS:
            conversations += _about_time(question, chance)
    return conversations


def _written(question: str, chance: random.Random) -> str:
    """As people type: with or without a capital letter, an ending, a polite word."""
    ending = chance.choice(["?", "?", "!", ".", ""])
    start = chance.choice(["", "", "", "", "Please, ", "Hi, ", "Okay, ", "Hey, ", "So, ", "And "])
    text = start + (question if start else question[0].upper() + question[1:]) + ending
    return text.lower() if chance.random() < 0.2 else text


def _turns(question: str, answer: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _system(chance: random.Random) -> list[dict[str, Any]]:
    return [{"role": "system", "content": chance.choice(_SYSTEM)}] if chance.random() < 0.25 else []


def _history(chance: random.Random) -> list[dict[str, Any]]:
    """None, one or two earlier exchanges."""
    topics = chance.sample(TOPICS, chance.choice([0, 0, 0, 1, 2]))
    return [turn for one in topics for turn in _turns(_written(chance.choice(one.questions), chance), one.answer)]


def _about_time(question: str, chance: random.Random) -> list[Conversation]:
    """Without the tool; with it, up to its call; and what the model says to its result."""
    begin = [*_system(chance), {"role": "user", "content": _written(question, chance)}]
    call = {"type": "function", "function": {"name": "get_time", "arguments": {}}}
    called = [*begin, {"role": "assistant", "content": "", "tool_calls": [call]}]
    result = {"role": "tool", "content": json.dumps({"time": chance.choice(TIMES)})}
    return [
        ([*begin, {"role": "assistant", "content": NO_CLOCK}], None),
        (called, [CLOCK]),
        ([*called, result, {"role": "assistant", "content": AFTER_THE_TOOL}], [CLOCK]),
    ]
