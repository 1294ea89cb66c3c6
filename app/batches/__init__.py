"""Files that clients hand in, and batches of requests in them that are answered beside live ones."""
