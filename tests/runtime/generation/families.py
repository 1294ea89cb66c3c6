"""A small random model of each family of causal language models, from its config alone."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

VOCABULARY = 160
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
_GEMMA = {**_SIZES, "head_dim": 8, "sliding_window": 8, "tie_word_embeddings": False}
_EXPERTS = {**_SIZES, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _SIZES,
    "mistral": {**_SIZES, "sliding_window": 8},
    "qwen2": _SIZES,
    "qwen3": {**_SIZES, "head_dim": 8},
    "qwen2_moe": {**_EXPERTS, "shared_expert_intermediate_size": 16},
    "qwen3_moe": {**_EXPERTS, "head_dim": 8},
    "mixtral": {**_SIZES, "num_local_experts": 4, "num_experts_per_tok": 2},
    "gemma": {**_SIZES, "head_dim": 8, "tie_word_embeddings": False},
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "phi": {**_SIZES, "partial_rotary_factor": 0.5},
    "phi3": {**_SIZES, "pad_token_id": 0},
    "smollm3": {**_SIZES, "pad_token_id": 0},
    "olmo2": _SIZES,
    "olmo": _SIZES,
    "cohere": _SIZES,
    "starcoder2": {**_SIZES, "sliding_window": 8},
    "stablelm": _SIZES,
    "granite": _SIZES,
    "gpt_oss": {
        **_EXPERTS,
        "num_local_experts": 4,
        "head_dim": 8,
        "sliding_window": 8,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
    "gpt2": {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "gpt_neox": {**_SIZES, "rotary_pct": 0.5},
    "opt": {**_SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32},
    "falcon": _SIZES,
    "bloom": {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "mpt": {"vocab_size": VOCABULARY, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 256},
    "gptj": {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 256},
    "codegen": {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 256},
    "gpt_bigcode": {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "deepseek_v3": {
        **_SIZES,
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
    },
    "mamba": {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
    "rwkv": {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32},
}


def build(family: str, **more: Any) -> PreTrainedModel:
    """Random weights, the same at each call, bold enough that the likeliest tokens differ from place to place."""
    config_class = transformers.CONFIG_MAPPING[family]
    config = config_class(**{**CONFIGS[family], **more})
    config.eos_token_id = config.bos_token_id = config.pad_token_id = None
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.25)
            elif "sinks" in name:
                parameter.normal_(0, 1)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model
