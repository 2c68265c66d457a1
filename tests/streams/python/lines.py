"""How a test and a script talk: JSON, one value a line, both ways. Used by every script beside this one.

A test asks `{"ask": 1, "do": "name", ...}` and hears `{"event": "answer", "ask": 1, ...}`; what happens by itself is an
event of its own. Every line carries the moment it was said, in nanoseconds of the machine's monotonic clock, which the
test reads too. It must never outlive its standard input: that ends with the test.
"""

import json
import os
import sys
import threading
import time
import traceback

_one_at_a_time = threading.Lock()


def say(event, **facts):
    line = json.dumps({"event": event, "at": time.monotonic_ns(), **facts})
    with _one_at_a_time:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def begin(step, *arguments):
    """Runs a step in a thread of its own; one that fails is told, and ends the script."""

    def run():
        try:
            step(*arguments)
        except BaseException:
            say("failed", why=traceback.format_exc())
            os._exit(1)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def serve(commands, **facts):
    """Answers each line of standard input with what `commands` has for it, each in a thread of its own."""

    def answer(ask, do, wish):
        say("answer", ask=ask, **(commands[do](**wish) or {}))

    say("ready", **facts)
    for line in sys.stdin:
        wish = json.loads(line)
        begin(answer, wish.pop("ask"), wish.pop("do"), wish)
    # Threads may wait for what never comes.
    os._exit(0)


def stamp():
    """This moment as eight bytes, the head of every stamped block."""
    return time.monotonic_ns().to_bytes(8, "big")


def stamp_of(block):
    return int.from_bytes(block[:8], "big")
