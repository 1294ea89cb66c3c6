"""API keys over HTTP: who asks, what they may, what they see of the fleet."""
