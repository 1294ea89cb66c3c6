"""Pipeserve: one HTTP server for every Hugging Face pipeline."""

__version__ = "0.1.0"
