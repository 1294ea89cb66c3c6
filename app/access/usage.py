"""What was used with a key, for accounting. Since the server's start; a key that is changed goes on counting."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Used:
    """seconds: of computing, prepare and finish included; of a forward that was shared, its share."""

    jobs: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0

    def add(self, other: Used) -> None:
        self.jobs += other.jobs
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.seconds += other.seconds


@dataclass(slots=True)
class Usage:
    """requests: over HTTP, whatever came of them. limited: those refused for a limit of the key, which are no requests.
    by_model: by the ids of entries."""

    requests: int = 0
    limited: int = 0
    by_model: dict[str, Used] = field(default_factory=dict)

    def add(self, model_id: str, used: Used) -> None:
        known = self.by_model.get(model_id)
        if known is None:
            known = self.by_model[model_id] = Used()
        known.add(used)

    def total(self) -> Used:
        total = Used()
        for used in list(self.by_model.values()):  # a scrape reads it in a thread of its own
            total.add(used)
        return total
