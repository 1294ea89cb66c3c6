"""What the API process has of the pages at `/ui`: their process, and the way to it."""
