"""What the API process and the forkserver say to each other.

The forkserver sends a reply of 0 when it is ready. For each request, one byte with a socket attached, it replies with
the pid of the worker that it forked, or with minus the errno that prevented it.
"""

from __future__ import annotations

import struct

REQUEST = b"F"
REPLY = struct.Struct("<q")
