"""Several commands in one other process, whose environment is read as libraries are imported: a second for all of
them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.cli.test_commands import REPOSITORY

_RUN = """
import json, sys
from typer.testing import CliRunner
from app.cli import cli

done = [CliRunner().invoke(cli, arguments) for arguments in json.load(sys.stdin)]
print(json.dumps([[one.exit_code, one.stdout, one.stderr, repr(one.exception)] for one in done]))
"""


@dataclass(frozen=True)
class Done:
    """exception: that the command ended with; SystemExit where it meant to."""

    code: int
    stdout: str
    stderr: str
    exception: str

    def told(self) -> str:
        """By a command that did what it was to do."""
        assert self.code == 0, self
        return self.stdout

    def json(self) -> Any:
        return json.loads(self.told())

    @property
    def problem(self) -> str:
        """The one sentence of a command that failed as commands do."""
        assert (self.code, self.exception) == (1, "SystemExit(1)"), self
        assert self.stderr.count("\n") == 1, self
        return self.stderr.rstrip()


def run_several(commands: Mapping[str, Sequence[str]], **variables: str) -> dict[str, Done]:
    """One after the other, in this order; by the same names."""
    process = subprocess.run(
        [sys.executable, "-c", _RUN],
        cwd=REPOSITORY,
        env={**os.environ, **variables},
        input=json.dumps(list(commands.values())),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout.splitlines()[-1])
    return {name: Done(*one) for name, one in zip(commands, found, strict=True)}
