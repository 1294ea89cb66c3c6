"""A chat template is a program of the model's, which reaches the chat and nothing else."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from app.errors import InvalidInput
from app.runtime.chat.format import ChatFormat
from tests.tiny.chat import tokenizer

CHAT = {"messages": [{"role": "user", "content": "Hi!"}]}
MAKE_FOLDER = "{{ cycler.__init__.__globals__.os.mkdir('MARK') }}"
ATTACKS = [
    MAKE_FOLDER,
    "{{ lipsum.__globals__['os'].mkdir('MARK') }}",
    "{{ raise_exception.__globals__.keys() }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ '{0.__class__.__name__}'.format(messages) }}",
    "{{ (messages | attr('__class__')).__mro__ }}",
    "{{ messages.append(messages[0]) }}",
    "{% include '/etc/hostname' %}",
    "{% for number in range(1000000000) %}a{% endfor %}",
]


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


def test_the_attack_works_outside_a_sandbox(mark: Path) -> None:
    """Or no test here could fail."""
    jinja2.Environment(autoescape=False).from_string(MAKE_FOLDER.replace("MARK", str(mark))).render()
    assert mark.exists()


@pytest.mark.parametrize("template", ATTACKS)
def test_a_template_reaches_nothing_but_its_chat(template: str, mark: Path) -> None:
    """Not Python behind its values, no files, no changes to what it was given, no loop without an end."""
    owner = tokenizer()
    owner.chat_template = template.replace("MARK", str(mark))
    with pytest.raises(InvalidInput, match="the model's chat template refuses it"):
        ChatFormat(owner, owner).render(CHAT, param="messages")
    assert not mark.exists()
