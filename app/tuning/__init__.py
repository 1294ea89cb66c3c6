"""`backend: auto`: what `pipeserve tune` measures, how it chooses, and the choices that serving honours. No torch."""
