"""Backends on tiny models, against torch."""
