"""No keyword of `InferenceClient` is unknown to the task that it reaches."""

from __future__ import annotations

import inspect

import pytest
from huggingface_hub import InferenceClient

from app.tasks.registry import TASKS
from scripts.python_example import METHOD_NAMES

INPUTS = frozenset(
    "self audio image text prompt question context sentence other_sentences table query model extra_body stream kwargs"
    " stop_sequences".split()
)
"""What becomes the inputs or the URL, what is sent elsewhere, and one that the client itself renames (`stop`)."""
NESTED = frozenset({"generate_parameters", "generation_parameters", "truncation"})
"""Objects and names that the tasks read into their own parameters."""


@pytest.mark.parametrize("task", METHOD_NAMES)
def test_keywords_of_the_method_are_parameters_of_the_task(task: str) -> None:
    """Each is honoured, documented as harmless, or refused with a sentence of its own: never `no such parameter`."""
    keywords = set(inspect.signature(getattr(InferenceClient, METHOD_NAMES[task])).parameters)
    known = set(TASKS[task].parameters.model_fields) | set(TASKS[task].root_parameters)
    taken = {"prompt"} if task == "image-to-image" else set()  # a parameter there
    assert keywords - (INPUTS - taken) - NESTED <= known
