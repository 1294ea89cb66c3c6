"""What computes beside transformers' own models, one module per backend, and the files they make on this machine."""
