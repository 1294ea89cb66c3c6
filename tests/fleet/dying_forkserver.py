"""A forkserver that forks what it is asked for, and dies without saying its pid."""

from __future__ import annotations

import os
import socket
import sys

from app.channel.forks import MAX_REQUEST_BYTES, REPLY


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
    control.sendall(REPLY.pack(0))
    data, fds, _, _ = socket.recv_fds(control, MAX_REQUEST_BYTES, 1)
    if data and os.fork() == 0:
        control.close()
        socket.socket(fileno=fds[0]).recv(1)  # until the launcher closes its end
    os._exit(0)


if __name__ == "__main__":
    main()
