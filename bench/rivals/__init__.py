"""Servers of others around the same model, each as a user of that framework would write it."""
