"""Speaks HTTP: routes, dialects, error answers. Knows the fleet only through `app/fleet/requests.py`."""
