"""The messages between the API process and its workers, and how they are framed on a socket."""
