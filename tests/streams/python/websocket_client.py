"""A WebSocket client by the websockets library, with a certificate. Started by `tunnels.rs` with the stage's folder.

One event loop serves every connection. It must never take an end for a Close that did not come.
"""

import asyncio
import os
import ssl
import sys
import threading
import traceback
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from lines import say, serve, stamp, stamp_of

PACE = 0.02

folder = Path(sys.argv[1])
loop = asyncio.new_event_loop()
goes_on = {}


async def talk(name, there):
    async def speak():
        while True:
            await there.send(stamp())
            await asyncio.sleep(PACE)

    speaking = asyncio.create_task(speak())
    try:
        await read(name, there)
    finally:
        speaking.cancel()


async def read(name, there):
    """Reads to the end, and tells when it flows and how it ended."""
    last, messages = 0, 0
    try:
        while True:
            message = await there.recv()
            messages += 1
            last = max(last, stamp_of(message))
            if messages == 1:
                say("flows", call=name)
                if name in goes_on:
                    await goes_on[name].wait()
    except ConnectionClosed as end:
        close = [end.rcvd.code, end.rcvd.reason] if end.rcvd else None
        say("ended", call=name, close=close, messages=messages, last=last)


async def run(kind, name, address, certificate):
    try:
        context = ssl.create_default_context(cafile=folder / "server_root.pem")
        context.load_cert_chain(folder / f"{certificate}.pem", folder / f"{certificate}.key")
        path = "flood" if kind == "stalled" else kind
        if kind == "stalled":
            goes_on[name] = asyncio.Event()
        uri = f"wss://localhost:{address.rsplit(':', 1)[1]}/{path}"
        there = await connect(uri, ssl=context, proxy=None, ping_interval=None, max_size=None, max_queue=1)
        await (talk if kind in ("talk", "hush") else read)(name, there)
    except BaseException:
        say("failed", why=traceback.format_exc())
        os._exit(1)


def open(**wish):
    asyncio.run_coroutine_threadsafe(run(**wish), loop)


def read_on(name):
    loop.call_soon_threadsafe(goes_on[name].set)


threading.Thread(target=loop.run_forever, daemon=True).start()
serve({"open": open, "read_on": read_on})
