"""Load on a server over HTTP, and how it bears it: for `pipeserve bench`, and for the benchmarks of the repository."""
