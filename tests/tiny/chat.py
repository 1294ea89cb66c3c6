"""A model that chats: any text of any language, tools and thoughts in its template, and random weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKS = ("<tool_call>", "</tool_call>", "<think>", "</think>")
MAX_LENGTH = 2048
CHAT_TEMPLATE = """\
{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}
{% endif %}Tools:
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == 'system' %}{% if not loop.first %}{{ raise_exception('system must be first') }}{% endif %}
{%- elif message.role == 'tool' %}<|im_start|>user
<tool_response>{{ message.content }}</tool_response><|im_end|>
{% else %}<|im_start|>{{ message.role }}
{{ message.content or '' }}{% for call in message.tool_calls or [] %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking %}<think>
{% endif %}{% endif %}"""


def tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(one, special=True) for one in SPECIAL])
    backend.add_tokens([AddedToken(one, special=False) for one in MARKS])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=MAX_LENGTH
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def model(size: int, *, head_size: int = 8) -> PreTrainedModel:
    config = Qwen2Config(
        vocab_size=size + 9,  # more logits than tokens, as many models have
        hidden_size=4 * head_size,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_LENGTH,
        eos_token_id=258,
        pad_token_id=256,
        bos_token_id=None,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    random = Qwen2ForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in random.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.25)
    random.generation_config.eos_token_id = [258, 256]
    return random


def build(folder: Path, *, head_size: int = 8) -> None:
    fast = tokenizer()
    fast.save_pretrained(folder)
    model(len(fast), head_size=head_size).save_pretrained(folder)


BUILDERS: dict[str, Callable[[Path], None]] = {"chatml": build, "chatml-wide": partial(build, head_size=32)}
"""The wide one has heads as large as vLLM wants them."""
TASKS = {"chatml": "text-generation"}
