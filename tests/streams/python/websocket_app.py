"""A WebSocket app by the websockets library, without TLS: what the proxy stands in front of. Started by `apps.rs`.

`/talk` sends a stamp every 20 ms and takes what comes, `/hush` the same for a moment and is silent then, `/flood` sends as
many large messages as it can. It must never end a connection by itself.
"""

import asyncio
import os
import threading

from websockets.asyncio.server import serve as listen
from websockets.exceptions import ConnectionClosed

from lines import say, serve, stamp, stamp_of

PACE = 0.02
# Nothing that compresses: a window has to fill.
PIECE = os.urandom(64 * 1024)


async def talk(there, seen, stamps=None):
    async def hear():
        async for message in there:
            seen["messages"] += 1
            seen["last"] = max(seen["last"], stamp_of(message))

    hearing = asyncio.create_task(hear())
    try:
        while stamps != 0:
            await there.send(stamp())
            await asyncio.sleep(PACE)
            stamps = stamps and stamps - 1
        await hearing
    finally:
        # What was sent before the end may still wait in a queue.
        await asyncio.gather(hearing, return_exceptions=True)


async def hush(there, seen):
    await talk(there, seen, stamps=10)


async def flood(there, seen):
    async def tell_when_stalled():
        before = -1
        while before != seen["messages"]:
            before = seen["messages"]
            await asyncio.sleep(0.3)
        say("stalled", messages=before)

    asyncio.create_task(tell_when_stalled())
    while True:
        seen["messages"] += 1
        await there.send(stamp() + PIECE)


async def handle(there):
    path = there.request.path
    seen = {"messages": 0, "last": 0}
    say("opened", path=path, identity=there.request.headers.get("x-forwarded-client-cert"))
    try:
        await {"/talk": talk, "/hush": hush, "/flood": flood}[path](there, seen)
    except ConnectionClosed:
        pass
    say("app_ended", path=path, code=there.close_code, **seen)


async def main():
    async with listen(handle, "127.0.0.1", 0, ping_interval=None, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        threading.Thread(target=serve, args=({},), kwargs={"port": port}, daemon=True).start()
        await asyncio.Event().wait()


asyncio.run(main())
