"""What the clients of a proxy feel while an operator looks at all of its sessions, once a second.

Used by `cut`. The operator is this process, at the proxy's Unix socket, as `portcullis sessions watch` is. It must never
ask for a list before it has read the last one to its end.
"""

import http.client
import json
import socket
import time

from supplies import Unavailable

# From one look to the next, as `portcullis sessions watch` has it.
EVERY_SECONDS = 1.0


class _Operator(http.client.HTTPConnection):
    """HTTP over the socket file of --control."""

    def __init__(self, path):
        super().__init__("sidecar", timeout=30)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def _look(path):
    """One list, read to its end: seconds, bytes and sessions."""
    began = time.monotonic()
    operator = _Operator(path)
    operator.request("GET", "/v1/sessions")
    answer = operator.getresponse()
    text = answer.read()
    took = time.monotonic() - began
    operator.close()
    told = json.loads(text)
    if answer.status != 200 or told["unheard"] or told["count"] != len(told["sessions"]):
        raise Unavailable(f"a list of the sessions is not whole: {text[-200:]!r}.")
    return took, len(text), told["count"]


def measured(path, others, window):
    """`others()` gives how long each request took since it was asked last, in microseconds."""
    others()
    time.sleep(window)
    calm, looks, end = others(), [], time.monotonic() + window
    while time.monotonic() < end:
        looks.append(_look(path))
        time.sleep(max(0.0, EVERY_SECONDS - looks[-1][0]))
    return {"sessions": looks[-1][2], "bytes": looks[-1][1], "whole_ms": [took * 1e3 for took, _, _ in looks],
            "calm": calm, "disturbed": others()}
