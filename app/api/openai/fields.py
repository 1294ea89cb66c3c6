"""Fields that change nothing here, and fields that are refused: of the rest each has its place in a body's model."""

from __future__ import annotations

from app.api.fields import Unused

_NOTHING_KEPT = "nothing is kept of a request"
_BEAMS = "beam search is not part of this route; /v1/text-generation has num_beams"
_REPLACED = "structured_outputs has taken its place"
UNUSED = Unused(
    harmless={
        "metadata": _NOTHING_KEPT,
        "prediction": "a hint that would only save time",
        "priority": "X-Priority says it",
        "prompt_cache_key": "prompts are cached by their tokens",
        "prompt_cache_options": "prompts are cached by their tokens",
        "prompt_cache_retention": "prompts are cached by their tokens",
        "request_id": "X-Request-Id names a request",
        "safety_identifier": _NOTHING_KEPT,
        "service_tier": "there is one",
        "spaces_between_special_tokens": "fast tokenizers put none",
        "store": _NOTHING_KEPT,
        "user": _NOTHING_KEPT,
        "verbosity": "a hint that no open model knows",
    },
    refused={
        "audio": ((), "models here answer with text"),
        "cache_salt": ((), "prompts of all clients share what was computed of their beginnings"),
        "chat_template": ((), "a request cannot bring a template; the model's own is used"),
        "function_call": ((), "tool_choice has taken its place"),
        "functions": (([],), "tools has taken its place"),
        "guided_choice": ((), _REPLACED),
        "guided_decoding_backend": ((), _REPLACED),
        "guided_grammar": ((), _REPLACED),
        "guided_json": ((), _REPLACED),
        "guided_regex": ((), _REPLACED),
        "kv_transfer_params": (({},), "keys and values stay in this server"),
        "length_penalty": ((1, 1.0), _BEAMS),
        "logits_processors": (([],), "code from a request is not run"),
        "mm_processor_kwargs": (({},), "files are processed as the model's own files say"),
        "modalities": ((["text"],), "models here answer with text"),
        "moderation": ((), "no answer is moderated; /v1/moderations is a route of its own"),
        "structural_tag": ((), "structured_outputs takes json, regex, choice, grammar and json_object"),
        "use_beam_search": ((False,), _BEAMS),
        "vllm_xargs": (({},), "they are vLLM's own"),
        "web_search_options": ((), "this server searches nothing"),
    },
)
