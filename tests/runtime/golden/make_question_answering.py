"""Makes question_answering.json: what transformers 4.57.6, the last with the pipeline, answers.

In an environment with transformers==4.57.6: `python -m tests.runtime.golden.make_question_answering`. The model is
`tests/models.py`'s question answerer, whose weights and vocabulary depend on its seed alone.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).with_name("question_answering.json")
SHORT = "My name is Ada and I live in London. The match ended two goals to one."
LONG = " ".join(
    f"In chapter {number}, Ada the cat sat in London; the dog was good, and the film of Paris was bad."
    for number in range(40)
)
UNICODE = "Zoë lives in Köln – not “Paris”. 東京 is far; naïve café-goers (Ada's friends) disagree…"
CASES: list[dict[str, Any]] = [
    {"context": context, "question": question, "parameters": parameters}
    for context in (SHORT, LONG, UNICODE)
    for question in ("Where does Ada live?", "who")
    for parameters in (
        {},
        {"top_k": 5},
        {"top_k": 3, "align_to_words": False},
        {"handle_impossible_answer": True},
        {"max_answer_len": 3, "top_k": 2},
        {"max_seq_len": 48, "doc_stride": 8, "top_k": 4},
        {"max_seq_len": 40},
    )
]


def main() -> None:
    import transformers
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer, pipeline

    from tests.models import build

    assert transformers.__version__ == "4.57.6", transformers.__version__
    with tempfile.TemporaryDirectory() as scratch:
        folder = build("question-answering", Path(scratch))
        pipe = pipeline(
            "question-answering",
            model=AutoModelForQuestionAnswering.from_pretrained(folder),
            tokenizer=AutoTokenizer.from_pretrained(folder),
        )
        answers = [pipe(question=case["question"], context=case["context"], **case["parameters"]) for case in CASES]
    GOLDEN.write_text(json.dumps([{**case, "answer": answer} for case, answer in zip(CASES, answers, strict=True)]))


if __name__ == "__main__":
    main()
