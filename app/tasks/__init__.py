"""What each task is: inputs, parameters, outputs, in the field's own words. No torch, no FastAPI."""
