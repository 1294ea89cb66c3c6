"""Who published a model: the organisation that made it, somebody else, or whoever runs this server."""

from __future__ import annotations

OFFICIAL, COMMUNITY, LOCAL = "official", "community", "local"

_ORGANISATIONS = frozenset(
    """
    ai21labs allenai amazon answerdotai apple baai bigcode bigscience bytedance coherelabs databricks deepseek-ai
    deepset distilbert eleutherai facebook facebookai google google-bert google-t5 huggingfaceh4 huggingfacem4
    huggingfacetb ibm-granite intfloat internlm jinaai laion lgai-exaone liquidai llava-hf magic-leap-community
    meta-llama microsoft mistralai mixedbread-ai moonshotai naver naver-clova-ix nomic-ai nvidia openai
    openai-community openbmb opengvlab qwen salesforce sentence-transformers snowflake speechbrain stabilityai suno
    tiiuae zai-org
    """.split()
)
"""Organisations of the Hub that publish models of their own making, in lower case."""


def source_of(model: str) -> str:
    """model: as `/v1/models` has it, a repository or the name of a folder."""
    owner, slash, _ = model.partition("/")
    if not slash or owner in (".", ".."):
        return LOCAL
    return OFFICIAL if owner.lower() in _ORGANISATIONS else COMMUNITY
