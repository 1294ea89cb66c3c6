"""Download models of the Hub while the image is built: `bake.py acme/reviews@<commit> acme/chat` into HF_HOME."""

from __future__ import annotations

import sys

from huggingface_hub import snapshot_download

UNREAD = ["*.h5", "*.msgpack", "*.ot", "*.tflite", "*.gguf", "*.mlpackage/*", "coreml/*"]
"""Weights for other frameworks, which the server never reads."""

for wanted in sys.argv[1:]:
    repository, _, revision = wanted.partition("@")
    folder = snapshot_download(repository, revision=revision or None, ignore_patterns=UNREAD)
    sys.stdout.write(f"baked {repository} at {folder}\n")
