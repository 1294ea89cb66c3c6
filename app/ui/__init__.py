"""What a person sees at `/ui`: Gradio, in a process of its own that knows the server by its HTTP API alone."""
