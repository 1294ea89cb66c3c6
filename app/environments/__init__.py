"""Python environments of their own for workers whose libraries cannot be installed beside the server's."""
