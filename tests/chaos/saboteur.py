"""handler.py of a model that does, in the stage that a file names, what that file says. Runs in the worker.

The folder `orders` beside it has a file `<stage>` (load, prepare, forward, finish) with a deed. Whoever reaches that
stage first takes it, by renaming it to `<stage>.<pid>`, so that each is done once; the file goes when it is done. A
body may have a `deed` too, which is done each time that the body is computed.
"""

import ctypes
import os
import socket
import stat
import threading
import time
from pathlib import Path
from typing import Any

ORDERS = Path(__file__).parent / "orders"
POLL_S = 0.005
FOREVER_S = 3600
_kept: list[bytearray] = []


class EndpointHandler:
    def __init__(self, path: str = "") -> None:
        obey("load")

    def __call__(self, data: dict[str, Any]) -> Any:
        obey("forward")
        if "deed" in data:
            do(data["deed"])
        text = data["inputs"]
        return {"backwards": text[::-1], "length": len(text), "filler": "a" * (2**20 * data.get("filler", 0))}


def obey(stage: str) -> None:
    order, taken = ORDERS / stage, ORDERS / f"{stage}.{os.getpid()}"
    try:
        order.rename(taken)
        deed = taken.read_text()
    except FileNotFoundError:
        return
    if deed == "wait":  # for the signal that is to come, or for leave to go on
        while taken.exists():
            time.sleep(POLL_S)
    else:
        taken.unlink()
        do(deed)


def do(deed: str) -> None:
    name, _, argument = deed.partition(" ")
    match name:
        case "raise":
            raise ZeroDivisionError("as it was told")
        case "exit":
            os._exit(3)
        case "crash":
            ctypes.string_at(0)  # SIGSEGV
        case "hang":
            time.sleep(FOREVER_S)
        case "seize":
            ctypes.PyDLL(None).sleep(FOREVER_S)  # with the interpreter's lock: no heartbeat goes out
        case "leak":
            _kept.append(bytearray(os.urandom(2**20) * int(argument)))  # MiB
        case "allocate":
            bytearray(2**46)
        case "babble":
            send(b"\xff" * 64)
        case "stammer":
            send((1000).to_bytes(4, "little") + b"\0" * 5 + b"\x85")  # the head of a frame, and the first of 1000 bytes
            os._exit(3)
        case _:
            raise ValueError(f"nobody knows how to {deed}")


def send(data: bytes) -> None:
    """To the API process, between the worker's own messages: the worker has no other socket."""
    for entry in os.listdir("/proc/self/fd"):
        try:
            is_socket = stat.S_ISSOCK(os.fstat(int(entry)).st_mode)
        except OSError:  # the listing's own
            continue
        if is_socket:
            with socket.socket(fileno=os.dup(int(entry))) as found:
                found.sendall(data)


def watch(frame: Any, event: str, argument: Any) -> None:
    """Of the threads that prepare and finish, which call functions of these names."""
    if event == "call" and frame.f_code.co_name in ("prepare", "finish"):
        if frame.f_code.co_name == threading.current_thread().name:
            obey(frame.f_code.co_name)


if __name__ == "handler":  # as the server names it
    threading.setprofile(watch)  # for the threads that are started after the load
