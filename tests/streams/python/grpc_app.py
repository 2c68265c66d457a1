"""A gRPC app by grpcio, without TLS: what the proxy stands in front of. Started by `grpc*.rs`.

Messages are bytes, so no code is generated. Methods of `test.Streams`: `Echo` and `Refuse` answer at once, `Wait` never
does, `Count` takes an upload, `Deaf` takes none of it, `Ticks` sends a stamped message every 20 ms, `Flood` as many as it
can, `Talk` echoes. The health service is grpcio-health-checking's. It must never end a call that waits by itself.
"""

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from lines import say, serve, stamp, stamp_of

PACE = 0.02
# Nothing that compresses: a window has to fill.
PIECE = os.urandom(64 * 1024)


def watched(context, method, seen):
    """Tells how a call ended, once it has: cancelled by the other side, or by its own return."""
    ended = threading.Event()

    def tell():
        ended.set()
        say("app_ended", method=method, **seen)

    if not context.add_callback(tell):
        tell()
    return ended


def echo(request, context):
    metadata = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-first", "one"),))
    context.set_trailing_metadata((("x-length", str(len(request))), ("x-raw-bin", b"\x00\xff")))
    remaining = context.time_remaining()
    say("echo", length=len(request), asked=metadata.get("x-asked"), identity=metadata.get("x-forwarded-client-cert"),
        remaining=remaining)
    return request


def refuse(request, context):
    context.set_trailing_metadata((("x-why", "because"),))
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: 100 % Käse")


def wait(request, context):
    ended = watched(context, "Wait", {})
    say("waits")
    ended.wait()
    return b""


def count(requests, context):
    seen = {"messages": 0, "length": 0, "last": 0, "whole": False}
    ended = watched(context, "Count", seen)
    for request in requests:
        seen["messages"] += 1
        seen["length"] += len(request)
        seen["last"] = max(seen["last"], stamp_of(request))
        if seen["messages"] == 1:
            say("counts")
    # grpcio ends the iteration of a call that was reset too, if the message it waits for is gone before the call is.
    seen["whole"] = not ended.wait(0.3)
    return str(seen["length"]).encode()


def deaf(requests, context):
    ended = watched(context, "Deaf", {})
    ended.wait()
    return b""


def ticks(request, context):
    sent = {"messages": 0}
    ended = watched(context, "Ticks", sent)
    limit = int(request or b"0") or sys.maxsize
    while sent["messages"] < limit and not ended.is_set():
        sent["messages"] += 1
        yield stamp()
        time.sleep(PACE)


def flood(request, context):
    sent = {"messages": 0}
    ended = watched(context, "Flood", sent)

    def tell_when_stalled():
        before = -1
        while before != sent["messages"] and not ended.is_set():
            before = sent["messages"]
            ended.wait(0.3)
        say("stalled", messages=before)

    threading.Thread(target=tell_when_stalled, daemon=True).start()
    while not ended.is_set():
        sent["messages"] += 1
        yield stamp() + PIECE


def talk(requests, context):
    seen = {"messages": 0, "last": 0}
    watched(context, "Talk", seen)
    for request in requests:
        seen["messages"] += 1
        seen["last"] = max(seen["last"], stamp_of(request))
        yield stamp() + request


def main():
    server = grpc.server(
        ThreadPoolExecutor(max_workers=32),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
        compression=grpc.Compression.Gzip,
    )
    methods = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
        "Wait": grpc.unary_unary_rpc_method_handler(wait),
        "Count": grpc.stream_unary_rpc_method_handler(count),
        "Deaf": grpc.stream_unary_rpc_method_handler(deaf),
        "Ticks": grpc.unary_stream_rpc_method_handler(ticks),
        "Flood": grpc.unary_stream_rpc_method_handler(flood),
        "Talk": grpc.stream_stream_rpc_method_handler(talk),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Streams", methods),))
    healthy = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    def turn(serving):
        status = health_pb2.HealthCheckResponse
        healthy.set("test.Streams", status.SERVING if serving else status.NOT_SERVING)

    turn(True)
    serve({"health": turn}, port=port)


main()
