"""Other servers' ways of asking: each module reads one server's bodies and writes its answers."""
