"""Which entry a request means."""

from __future__ import annotations

from collections.abc import Callable, Iterable

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
    """specs: the entries as they are now, in the order of their declaration."""

    def __init__(self, specs: Callable[[], Iterable[ModelSpec]]) -> None:
        self._specs = specs

    def get(self, name: str) -> ModelSpec:
        """By id or alias, or by an adapter's own id or as `model:adapter`: then with that adapter. Raises NotServed."""
        specs = list(self._specs())
        if (spec := _of_name(specs, name)) is not None:
            return spec
        for spec in specs:
            if spec.find_adapter(name) is not None:
                return spec.with_adapter(name)
        # Ids may hold colons too: the shortest that fits. By the declared names, of which there are few: what a client
        # names may have as many colons as a body has room for.
        declared = [(own, spec) for spec in specs for own in (spec.id, *spec.aliases) if name.startswith(f"{own}:")]
        if declared:
            own, spec = min(declared, key=lambda one: len(one[0]))
            return spec.with_adapter(name[len(own) + 1 :])
        names = (one for spec in specs for one in (spec.id, *(adapter.id for adapter in spec.adapters)))
        raise NotServed(f'There is no model "{name[:_MAX_SHOWN]}" here; there is {_listed(names)}.', param="model")

    def find(self, task: str, name: str | None) -> ModelSpec:
        """The named entry, else the first that declares the task, else the first that answers it besides its own, else
        the first whose tasks are not known yet.

        Raises NotServed. An entry whose tasks are not known yet is told apart when they are.
        """
        if name is not None and (not is_default_name(name) or self._is_declared(name)):
            spec = self.get(name)
            if spec.tasks and task not in spec.all_tasks:
                raise NotServed(f'"{name}" does not serve {task}; it serves {_listed(spec.all_tasks)}.', param="model")
            return spec
        specs = list(self._specs())
        for spec in specs:
            if task in spec.tasks:
                return spec
        for spec in specs:
            if task in spec.implied_tasks:
                return spec
        for spec in specs:
            if not spec.tasks and spec.problem is None:
                return spec
        served = dict.fromkeys(one for spec in specs for one in spec.all_tasks)
        raise NotServed(f"No model here serves {task}; what is served: {_listed(served)}.", param="model")

    def _is_declared(self, name: str) -> bool:
        return _of_name(self._specs(), name) is not None


def _of_name(specs: Iterable[ModelSpec], name: str) -> ModelSpec | None:
    by_alias = None
    for spec in specs:
        if name == spec.id:
            return spec
        if by_alias is None and name in spec.aliases:
            by_alias = spec
    return by_alias


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = [] if len(names) <= _MAX_NAMED else [f"{len(names) - _MAX_NAMED} more"]
    return ", ".join(names[:_MAX_NAMED] + more) or "nothing"
