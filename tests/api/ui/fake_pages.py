"""In the place of `python -m app.ui`: says what it was asked. Arguments: seconds to wait before it is ready."""

from __future__ import annotations

import json
import os
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

NUM_LEFT = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/ui/die":
            os._exit(3)
        if self.path == "/ui/stream":
            self._stream()
            return
        if self.path.startswith("/ui/dying"):
            self._begin_and_die(media_type=self.path.partition("?")[2])
        length = int(self.headers.get("content-length") or 0)
        told = {
            "method": self.command,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": self.rfile.read(length).decode(),
            "pid": os.getpid(),
            "environment": sorted(os.environ),
            "folder": os.getcwd(),
            "told": TOLD,
            "num_left": NUM_LEFT,
        }
        body = json.dumps(told).encode()
        self.send_response(201)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("set-cookie", "a=1")
        self.send_header("set-cookie", "b=2")
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET

    def _stream(self) -> None:
        global NUM_LEFT
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"data: tick\n\n")
                self.wfile.flush()
                time.sleep(0.02)
        except OSError:
            NUM_LEFT += 1

    def _begin_and_die(self, media_type: str) -> None:
        self.send_response(200)
        self.send_header("content-type", media_type)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"c\r\ndata: tick\n\n\r\n")
        os._exit(3)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


TOLD = json.loads(sys.stdin.readline())
threading.Thread(target=end_with_parent, daemon=True).start()
with Server(TOLD["socket"], Handler) as server:
    time.sleep(float(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print("some library's own words", flush=True)  # noqa: T201
    print("ready", flush=True)  # noqa: T201
    server.serve_forever()
