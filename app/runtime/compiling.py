"""`compile: true`: torch.compile of a model's forward such that nothing is compiled under load.

Every axis of every input is dynamic, so one piece of code serves all widths and, as torch tells one row from several,
two serve all batches: as fast as code for single shapes, which would be many (docs/lab-log.md). They are compiled as
the model warms up. From then on inputs that they do not fit are computed uncompiled, and counted.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import nn

from app.errors import ModelFailed, NotAvailable

INDUCTOR = "inductor"


class Compiled:
    """The compiled modules of one model. Owned by the device thread."""

    def __init__(self, modules: Sequence[nn.Module], backend: str | Callable[..., Any] = INDUCTOR) -> None:
        """backend: of torch.compile; anything but inductor is for tests."""
        import torch._inductor.config as inductor
        import torch.fx.experimental._config as symbols

        inductor.compile_threads = 1  # in this process: a pool of others would outlive a worker that is killed
        symbols.use_duck_shape = False  # axes that happen to be equal in the warm-up are not the same axis
        # Compiled code does not depend on the number of threads, which changes as workers share the cores.
        options: dict[str, Any] = {"guard_filter_fn": _without_threads}
        if backend == INDUCTOR:
            options["cpp.dynamic_threads"] = True
        self._num_misfits = 0
        for module in modules:
            module.forward = torch.compile(
                self._counted(module.forward), backend=backend, dynamic=True, options=options
            )

    @contextmanager
    def warming_up(self) -> Iterator[None]:
        """What is computed in here is compiled; nothing is later. Raises ModelFailed for what cannot be compiled."""
        from torch._dynamo.exc import TorchDynamoException  # a second, and most models are not compiled

        torch.compiler.set_stance("default")
        try:
            yield
        except TorchDynamoException as error:
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ModelFailed(f"compile: this model cannot be compiled, leave the key out: {reason[:300]}") from error
        torch.compiler.set_stance("eager_on_recompile")
        self._num_misfits = 0

    def take_misfits(self) -> int:
        """Forwards since the last call that were computed uncompiled."""
        num_misfits, self._num_misfits = self._num_misfits, 0
        return num_misfits

    def _counted(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(forward)  # its parameters' names are looked at
        def counted(*arguments: Any, **keywords: Any) -> Any:
            if not torch.compiler.is_compiling():  # a constant in compiled code, which has nothing left of this
                self._num_misfits += 1
            return forward(*arguments, **keywords)

        return counted


def _without_threads(guards: Sequence[Any]) -> list[bool]:
    """The state that torch guards as a whole: the number of threads, and what does not change in a worker."""
    return [guard.guard_type != "GLOBAL_STATE" for guard in guards]


def require_compiler(device: torch.device) -> None:
    """Raises NotAvailable."""
    name = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(name) is None:
        raise NotAvailable(f"compile: it needs a C++ compiler, and there is no {name} here; CXX names another.")
