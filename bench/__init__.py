"""Measurements against rivals on the same machine, in the same run. `make bench`; see `bench/run.py`."""
