"""The labels of zero-shot tasks."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from app.tasks.text import Text

MAX_LABELS = 1000
CandidateLabels = Annotated[list[Text], Field(min_length=1, max_length=MAX_LABELS)]


def split_labels(labels: Any) -> Any:
    """A list, or one string with commas."""
    return [label for part in labels.split(",") if (label := part.strip())] if isinstance(labels, str) else labels


def check_template(template: str | None) -> str | None:
    """Raises ValueError."""
    if template is not None and (template.count("{}") != 1 or template.count("{") != 1 or template.count("}") != 1):
        raise ValueError("must hold {} exactly once, and no other braces")
    return template
