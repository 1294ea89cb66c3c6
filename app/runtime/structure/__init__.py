"""Structured output: what an answer must be, as a mask over each next token."""
