"""A form for each task, made from its example in the registry, and its answers as something to look at."""
