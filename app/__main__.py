"""`python -m app` is `pipeserve`."""

from app.cli import main

main()
