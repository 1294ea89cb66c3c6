"""Which entry a request means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from app.catalog import ModelSpec
from app.errors import NotServed

_DEFAULT_NAMES = ("", "dummy", "tgi")
"""What Hugging Face's clients send as `model` when they have none."""
_MAX_NAMED = 20
_MAX_SHOWN = 200  # characters of a name that nothing has


def is_default_name(name: str | None) -> bool:
    """Whether it names no model: the server's URL is what clients send that were told nothing else."""
    return name is None or name in _DEFAULT_NAMES or name.startswith(("http://", "https://"))


class Directory:
    """specs: the entries in the order of their declaration. To look one up takes as long whether there are ten or a
    hundred thousand."""

    def __init__(self, specs: Iterable[ModelSpec]) -> None:
        self._specs = {spec.id: spec for spec in specs}
        self._by_alias: dict[str, str] = {}
        self._by_adapter: dict[str, str] = {}
        self._found: dict[str, str | None] = {}  # by task, the entry that answers where none is named
        self._served: str | None = None  # the tasks, for people
        for spec in self._specs.values():
            for alias in spec.aliases:
                self._by_alias.setdefault(alias, spec.id)
            for adapter in spec.adapters:
                self._by_adapter.setdefault(adapter.id, spec.id)
        self._longest = max(map(len, chain(self._specs, self._by_alias)), default=0)

    def __iter__(self) -> Iterator[ModelSpec]:
        return iter(self._specs.values())

    def put(self, spec: ModelSpec) -> None:
        """The entry of this id has become this one: other adapters, or tasks. Its names are the same."""
        old = self._specs[spec.id]
        self._specs[spec.id] = spec
        if old.adapters != spec.adapters:
            for adapter in old.adapters:
                if self._by_adapter.get(adapter.id) == spec.id:
                    del self._by_adapter[adapter.id]
            for adapter in spec.adapters:
                self._by_adapter.setdefault(adapter.id, spec.id)
        if (old.all_tasks, old.problem) != (spec.all_tasks, spec.problem):
            self._found.clear()
            self._served = None

    def get(self, name: str) -> ModelSpec:
        """By id or alias, or by an adapter's own id or as `model:adapter`: then with that adapter. Raises NotServed."""
        if (spec := self._of_name(name)) is not None:
            return spec
        if (model_id := self._by_adapter.get(name)) is not None:
            return self._specs[model_id].with_adapter(name)
        # Ids may hold colons too: the shortest that fits. What a client names may have as many colons as a body has
        # room for; beyond the longest declared name they are not looked at.
        at = name.find(":", 0, self._longest + 1)
        while at >= 0:
            if (spec := self._of_name(name[:at])) is not None:
                return spec.with_adapter(name[at + 1 :])
            at = name.find(":", at + 1, self._longest + 1)
        raise NotServed(f'There is no model "{name[:_MAX_SHOWN]}" here; there is {self._names()}.', param="model")

    def find(self, task: str, name: str | None) -> ModelSpec:
        """The named entry, else the first that declares the task, else the first that answers it besides its own, else
        the first whose tasks are not known yet.

        Raises NotServed. An entry whose tasks are not known yet is told apart when they are.
        """
        if name is not None and (not is_default_name(name) or self._of_name(name) is not None):
            spec = self.get(name)
            if spec.tasks and task not in spec.all_tasks:
                raise NotServed(f'"{name}" does not serve {task}; it serves {_listed(spec.all_tasks)}.', param="model")
            return spec
        if task not in self._found:
            first = first_for(task, self)
            self._found[task] = None if first is None else first.id
        if (model_id := self._found[task]) is not None:
            return self._specs[model_id]
        if self._served is None:
            self._served = _listed(dict.fromkeys(one for spec in self for one in spec.all_tasks))
        raise NotServed(f"No model here serves {task}; what is served: {self._served}.", param="model")

    def _of_name(self, name: str) -> ModelSpec | None:
        spec = self._specs.get(name)
        if spec is None and (model_id := self._by_alias.get(name)) is not None:
            spec = self._specs[model_id]
        return spec

    def _names(self) -> str:
        names = (one for spec in self for one in (spec.id, *(adapter.id for adapter in spec.adapters)))
        return _listed(names, len(self._specs) + len(self._by_adapter))


def first_for(task: str, specs: Iterable[ModelSpec]) -> ModelSpec | None:
    """Which of them answers a task where none is named."""
    implying = unknown = None
    for spec in specs:
        if task in spec.tasks:
            return spec
        if implying is None and task in spec.implied_tasks:
            implying = spec
        if unknown is None and not spec.tasks and spec.problem is None:
            unknown = spec
    return implying if implying is not None else unknown


def _listed(names: Iterable[str], number: int | None = None) -> str:
    """number: how many there are; None: they know."""
    if number is None:
        names = list(names)
        number = len(names)
    shown = list(islice(names, _MAX_NAMED))
    more = [] if number <= len(shown) else [f"{number - len(shown)} more"]
    return ", ".join(shown + more) or "nothing"
