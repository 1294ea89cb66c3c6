"""The demo: small models that this project trains itself, a catalogue of them, and real requests."""
