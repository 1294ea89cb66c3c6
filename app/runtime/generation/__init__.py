"""The one way in which tasks generate: rows in, rows of tokens out, and somebody asked at every step."""
