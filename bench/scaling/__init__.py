"""A thousand nodes and a hundred thousand models, simulated: what routing by residency gives (docs/scaling.md)."""
