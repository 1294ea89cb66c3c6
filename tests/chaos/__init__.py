"""Faults injected into a real server under load, with books: every request is answered once, right or as documented."""
