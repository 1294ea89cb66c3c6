"""Sound tasks on tiny models, against the plain pipelines and Auto classes."""
