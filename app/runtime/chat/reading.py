"""Chats as one model reads them: by its template, with files through its processor."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from app.errors import InvalidInput
from app.runtime.chat.format import ChatFormat
from app.runtime.multimodal.files import decoded_parts
from app.runtime.parts import Parts, tokenizer_of


class ChatReader:
    """Used by one thread: encoding sets truncation and padding inside a processor's tokenizer."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @cached_property
    def format(self) -> ChatFormat:
        tokenizer = tokenizer_of(self._parts)
        return ChatFormat(tokenizer if self._parts.processor is None else self._parts.processor, tokenizer)

    @cached_property
    def _processor(self) -> Any:
        return copy.deepcopy(self._parts.processor)

    def row(self, chat: Mapping[str, Any], param: str) -> Mapping[str, Any]:
        """The model's inputs of a chat with files, which the processor puts where the template says."""
        param = f"{param}.messages"
        if self._parts.processor is None:
            raise InvalidInput(f"{param}: this model takes text alone, no images or sounds.", param=param)
        messages = decoded_parts(chat["messages"], self._processor, self._parts.media, param)
        return self.format.row(self._processor, {**chat, "messages": messages}, param=param)
