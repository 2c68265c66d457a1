"""Runs a command at a terminal of 12 rows and 100 columns, as somebody would sit before it.

terminal.py STEPS COMMAND...: STEPS is JSON, a list of lists; each waits until its first text came since the step before,
then types its second, and kills the process that its third names, if there is one. Prints one JSON object: the exit code,
everything that came, and whether the terminal is left with the modes that it had. It must never wait without a deadline.
"""

import fcntl
import json
import os
import select
import struct
import subprocess
import sys
import termios
import time

PATIENCE = 50

steps, command = json.loads(sys.argv[1]), sys.argv[2:]
ours, theirs = os.openpty()
fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 100, 0, 0))
before = termios.tcgetattr(theirs)


def sit():
    """It is the terminal of the command's own session, so that Ctrl-C reaches it."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


process = subprocess.Popen(
    command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=sit
)
seen, mark, end = b"", 0, time.monotonic() + PATIENCE


def more(pause):
    """Takes in what came; whether anything did."""
    global seen
    if time.monotonic() > end:
        process.kill()
        sys.exit(f"nothing more came in time, after {seen[-500:]!r}")
    came = bool(select.select([ours], [], [], pause)[0])
    if came:
        seen += os.read(ours, 65536)
    return came


for text, keys, *doomed in steps:
    while text.encode() not in seen[mark:]:
        if not more(0.05) and process.poll() is not None:
            sys.exit(f"the command ended before {text!r} came: {seen[-500:]!r}")
    mark = len(seen)
    os.write(ours, keys.encode())
    for other in doomed:
        os.kill(other, 9)
while process.poll() is None:
    more(0.05)
while more(0):
    pass
print(json.dumps({
    "code": process.returncode,
    "seen": seen.decode(errors="replace"),
    "modes_are_back": termios.tcgetattr(theirs) == before,
}))
