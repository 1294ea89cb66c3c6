"""text-generation: how a text or a conversation goes on."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.tasks.base import Example, Task, assemble_list
from app.tasks.generation_parameters import GenerationParameters
from app.tasks.text import Text

ADAPTER_ID = "adapter_id"
"""The parameter by which Text Generation Inference's clients choose an adapter."""


class Message(BaseModel):
    """One turn of a conversation. role: as the model's chat template knows it, such as system, user, assistant."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    role: Text
    content: Any = None


Chat = Annotated[list[Message], Field(min_length=1)]


class Grammar(BaseModel):
    """As Text Generation Inference has it. value: a JSON schema, or a regular expression."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    type: Literal["json", "json_schema", "regex"]
    value: Any

    def structure(self) -> dict[str, Any]:
        """In the words of `Structure`."""
        schema = self.value
        if self.type == "regex":
            return {"kind": "regex", "value": schema}
        if self.type == "json_schema" and isinstance(schema, dict):
            schema = schema.get("schema", schema)
        return {"kind": "json_schema", "value": schema}


class TextGenerationParameters(GenerationParameters):
    """Unset: as the model's generation_config says, else greedy."""

    return_full_text: bool | None = Field(default=None, description="Put the prompt before the answer. Unset: false.")
    details: bool | None = Field(default=None, description="Tell each token with its log-probability.")
    decoder_input_details: bool | None = Field(default=None, description="With details: the prompt's tokens as well.")
    stop: Annotated[list[Text], Field(max_length=16)] | Text | None = Field(
        default=None, description="Texts that end the answer, of which they stay the last part."
    )
    stop_sequence: Text | None = Field(default=None, description="The same, the pipelines' name.")
    truncate: Annotated[int, Field(ge=1)] | bool | None = Field(
        default=None, description="Keep only so many tokens at the end of the prompt; true: as many as the model takes."
    )
    best_of: int | None = Field(
        default=None, ge=1, le=16, description="Draw so many answers and keep the likeliest (with do_sample)."
    )
    num_return_sequences: int | None = Field(default=None, ge=1, le=16, description="So many answers. Unset: 1.")
    frequency_penalty: float | None = Field(
        default=None, ge=-2, le=2, description="Above 0: tokens count against themselves, each time more."
    )
    top_n_tokens: int | None = Field(
        default=None, ge=0, le=20, description="With details: so many alternatives at each token's place."
    )
    watermark: bool | None = Field(default=None, description="Only false: answers are not marked.")
    adapter_id: str | None = Field(default=None, description="One of the model's adapters; as `model:adapter`.")
    grammar: Grammar | None = Field(
        default=None, description='What the answer must be: {"type": "json" | "json_schema" | "regex", "value": ...}.'
    )

    @field_validator("watermark")
    @classmethod
    def _refuse_what_is_not_here(cls, value: Any) -> None:
        if value:
            raise ValueError("this version does not support it")


class GeneratedText(BaseModel):
    """details: as Text Generation Inference tells them."""

    generated_text: Any
    details: dict[str, Any] | None = None


def _is_single(inputs: Any, parameters: dict[str, Any]) -> bool:
    """A list of objects is one conversation."""
    return not isinstance(inputs, list) or bool(inputs and isinstance(inputs[0], dict))


def _count(one_input: Any, parameters: dict[str, Any]) -> int:
    return int(max(parameters.get("best_of", 1), parameters.get("num_return_sequences", 1)))


TASK = Task(
    name="text-generation",
    summary="How a text or a conversation goes on.",
    input_type=Text | Chat,
    parameters=TextGenerationParameters,
    output_type=list[GeneratedText] | list[list[GeneratedText]],
    auto_classes=("AutoModelForCausalLM",),
    stages="app.runtime.text_generation:TextGenerationStages",
    warm_up=("a", {"max_new_tokens": 2}),
    default_model="Qwen/Qwen3-0.6B",
    example=Example(
        body={"inputs": "The capital of France is", "parameters": {"max_new_tokens": 5}},
        answer=[{"generated_text": " Paris, the city of"}],
    ),
    batching="Prompts whose requests agree in their generation parameters, lengths aside. Drawn with a seed: alone.",
    is_single=_is_single,
    count=_count,
    assemble=assemble_list,
)
