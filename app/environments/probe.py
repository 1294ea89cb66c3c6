"""`python -P -m app.environments.probe MODULE...`, run by an environment's Python: what can be imported there, as JSON.

Imports nothing of ours by itself, so that it can tell of an environment in which nothing works.
"""

from __future__ import annotations

import importlib
import json
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import distributions
from importlib.util import find_spec

BREAKS_TRANSFORMERS = ("torchvision", "torchaudio", "torchcodec")
"""transformers looks whether these are there, not whether they can be imported: a build of them for another torch
breaks it for every task."""
_MAX_REASON_CHARS = 300


def main() -> None:
    found = {
        "python": platform.python_version(),
        "versions": {one.metadata["Name"].lower().replace("_", "-"): one.version for one in distributions()},
        "broken": failures(name for name in BREAKS_TRANSFORMERS if find_spec(name) is not None),
        "failed": failures(sys.argv[1:]),
    }
    # Libraries print while they are imported: the last line is ours.
    sys.stdout.write("\n" + json.dumps(found) + "\n")


def failures(names: Iterable[str]) -> dict[str, str]:
    """Those that cannot be imported, each with the reason."""
    found = {}
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # a library may raise anything as it is imported: it is what is asked for
            first_line = next(iter(str(error).strip().splitlines()), "")
            found[name] = f"{type(error).__name__}: {first_line[:_MAX_REASON_CHARS]}"
    return found


if __name__ == "__main__":
    main()
