"""YAML text -> plain values whose lines are known, so that every complaint can name its line.

Stricter than PyYAML's safe loader: a key written twice, a key that is not text and a tag are errors.
"""

from __future__ import annotations

from typing import Any

import yaml

MAX_NODES = 100_000
"""Values in a file, aliases counted each time: a few lines of nested aliases would fill any memory. Longer files, in
which more are written, may have as many as characters."""

_MERGE_TAG = "tag:yaml.org,2002:merge"
_TEXT_TAG = "tag:yaml.org,2002:str"
_COLLECTION_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")

Path = tuple[str | int, ...]
"""Keys and list positions from the root, such as ("models", 2, "batch", "max_items")."""


class YamlError(Exception):
    """`str(error)` is a sentence without its place; `line` counts from 1, None where it is not known."""

    def __init__(self, sentence: str, line: int | None = None) -> None:
        super().__init__(sentence)
        self.line = line


class YamlDocument:
    """The values, and the line of each."""

    def __init__(self, value: Any, lines: dict[Path, int]) -> None:
        self.value = value
        self._lines = lines

    def line(self, path: Path) -> int | None:
        """Of the value's key, or of the innermost thing around it that has a line."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._lines:
                return self._lines[path[:length]]
        return None


def read_yaml(text: str) -> YamlDocument:
    """Values are dict, list, str, int, float, bool, None and dates. Raises YamlError."""
    loader = yaml.CSafeLoader("")
    try:
        loader = yaml.CSafeLoader(text)
        root = loader.get_single_node()
        builder = _Builder(loader, max_nodes=max(MAX_NODES, len(text)))
        value = None if root is None else builder.build(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(_sentence(error), None if mark is None else mark.line + 1) from None
    except yaml.YAMLError as error:  # a character that no YAML may hold
        raise YamlError(f"this is not YAML: {' '.join(str(error).split())}.") from None
    except RecursionError:
        raise YamlError("its values are nested too deeply.") from None
    finally:
        loader.dispose()
    return YamlDocument(value, builder.lines)


class _Builder:
    """Turns the nodes of one text into values."""

    def __init__(self, loader: yaml.CSafeLoader, *, max_nodes: int) -> None:
        self.lines: dict[Path, int] = {}
        self._loader = loader
        self._open: set[int] = set()
        self._num_nodes = 0
        self._max_nodes = max_nodes

    def build(self, node: yaml.Node, path: Path) -> Any:
        self._num_nodes += 1
        if self._num_nodes > self._max_nodes:
            raise YamlError(f"it holds more than {self._max_nodes} values, aliases included.", _line(node))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if node.tag not in _COLLECTION_TAGS:
            raise YamlError(f"the tag {_shown_tag(node.tag)} is not allowed.", _line(node))
        if id(node) in self._open:
            raise YamlError("an alias (*) stands inside of what it refers to.", _line(node))
        self._open.add(id(node))
        try:
            return self._mapping(node, path) if isinstance(node, yaml.MappingNode) else self._sequence(node, path)
        finally:
            self._open.discard(id(node))

    def _sequence(self, node: yaml.Node, path: Path) -> list[Any]:
        for index, child in enumerate(node.value):
            self.lines[*path, index] = _line(child)
        return [self.build(child, (*path, index)) for index, child in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        """A key that is written wins over a merged (`<<`) one, wherever the merge stands."""
        written: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE_TAG:
                merged = {**self._merged(value_node, path), **merged}
                continue
            key = self._key(key_node)
            if key in written:
                raise YamlError(f'key "{key}" is written twice (first in line {first_lines[key]}).', _line(key_node))
            first_lines[key] = self.lines[*path, key] = _line(key_node)
            written[key] = self.build(value_node, (*path, key))
        return {**merged, **written}

    def _merged(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        """Of several mappings the earlier wins."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        values: dict[str, Any] = {}
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                raise YamlError("<< merges mappings only.", _line(node))
            values = {**self.build(source, path), **values}
        return values

    def _key(self, node: yaml.Node) -> str:
        key = self._scalar(node) if isinstance(node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            written = f" {node.value}" if isinstance(node, yaml.ScalarNode) else ""
            raise YamlError(f"the key{written} is not text; put it in quotes.", _line(node))
        return key

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        if node.tag not in (_TEXT_TAG, self._implicit_tag(node)):
            raise YamlError(f"the tag {_shown_tag(node.tag)} is not allowed.", _line(node))
        if node.tag == _TEXT_TAG:
            return self._text(node)
        try:
            return self._loader.construct_object(node)
        except (ValueError, OverflowError):
            # Numbers and dates that only look like one: 2026-99-99, 0x_.
            raise YamlError(f"{node.value[:40]} cannot be read; put it in quotes.", _line(node)) from None

    def _implicit_tag(self, node: yaml.ScalarNode) -> str:
        """What YAML takes a plain value for."""
        tag: str = self._loader.resolve(yaml.ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]
        return tag

    def _text(self, node: yaml.ScalarNode) -> str:
        text: str = node.value
        try:
            text.encode()
        except UnicodeEncodeError:
            raise YamlError("a text holds half of a surrogate pair (\\ud800 to \\udfff).", _line(node)) from None
        return text


def _line(node: yaml.Node) -> int:
    line: int = node.start_mark.line
    return line + 1


def _sentence(error: yaml.MarkedYAMLError) -> str:
    parts = [part for part in (error.context, error.problem) if part]
    return f"this is not YAML: {', '.join(' '.join(part.split()) for part in parts)}."


def _shown_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")
