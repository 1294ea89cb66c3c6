"""What computes: the three stages of every task, on transformers models."""
