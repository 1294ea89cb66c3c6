"""Inside a worker process: the actor that owns one model, its batch queue and its threads."""
