"""A gRPC client by grpcio, with a certificate. Started by `grpc*.rs` with the stage's folder.

Each command below is one thing that a user of grpcio does. It must never retry, nor say of a call what grpcio did not.
"""

import os
import sys
import threading
import time
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lines import begin, say, serve, stamp, stamp_of

SERVICE = "/test.Streams/"
PACE = 0.02
# Nothing that compresses: a window has to fill.
PIECE = os.urandom(64 * 1024)

folder = Path(sys.argv[1])
channels = {}
calls = {}
goes_on = {}


def channel(name, address, certificate, compressed=False):
    """A channel that shows the certificate of this name."""
    credentials = grpc.ssl_channel_credentials(
        root_certificates=(folder / "server_root.pem").read_bytes(),
        private_key=(folder / f"{certificate}.key").read_bytes(),
        certificate_chain=(folder / f"{certificate}.pem").read_bytes(),
    )
    options = [
        ("grpc.ssl_target_name_override", "localhost"),
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        # Two channels to one place would share a connection, were it not for this.
        ("grpc.use_local_subchannel_pool", 1),
        # A test cannot wait for the second that a client begins with.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 200),
    ]
    compression = grpc.Compression.Gzip if compressed else grpc.Compression.NoCompression
    channels[name] = grpc.secure_channel(f"ipv4:{address}", credentials, options, compression)


def told(call):
    """How a call ended, as grpcio has it."""
    trailing = {key: value if isinstance(value, str) else value.hex() for key, value in call.trailing_metadata() or ()}
    return {"code": call.code().name, "details": call.details(), "trailing": trailing}


def finished(method, call):
    """The same of a call that is waited for."""
    try:
        answer = call.result()
    except grpc.RpcError:
        answer = None
    initial = {key: str(value) for key, value in call.initial_metadata() or ()}
    return {**told(call), "length": None if answer is None else len(answer), "initial": initial,
            "text": answer[:32].decode("latin-1") if answer else ""}


def unary(channel, method, length=0, timeout=20, wait_for_ready=False):
    ask = channels[channel].unary_unary(SERVICE + method)
    request = (bytes(range(256)) * (length // 256 + 1))[:length]
    call = ask.future(request, timeout=timeout, wait_for_ready=wait_for_ready, metadata=(("x-asked", "for"),))
    return finished(method, call)


def upload(channel, pieces, timeout=20):
    call = channels[channel].stream_unary(SERVICE + "Count").future((stamp() for _ in range(pieces)), timeout=timeout)
    return finished("Count", call)


def download(channel, count, timeout=20):
    call = channels[channel].unary_stream(SERVICE + "Ticks")(str(count).encode(), timeout=timeout)
    received = 0
    try:
        for _ in call:
            received += 1
    except grpc.RpcError:
        pass
    return {**told(call), "received": received}


def talk(channel, count):
    """Sends and reads so many messages."""
    call = channels[channel].stream_stream(SERVICE + "Talk")((stamp() for _ in range(count)), timeout=20)
    received = sum(1 for _ in call)
    return {**told(call), "received": received}


def cancel(channel):
    """Opens a stream and gives it up after three messages."""
    call = channels[channel].unary_stream(SERVICE + "Ticks")(b"", timeout=20)
    for _ in range(3):
        next(call)
    call.cancel()
    return told(call)


def health(channel):
    stub = health_pb2_grpc.HealthStub(channels[channel])
    known = stub.Check(health_pb2.HealthCheckRequest(service="test.Streams"), timeout=20)
    try:
        stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=20)
    except grpc.RpcError as error:
        return {"status": known.status, "unknown": error.code().name}


def tell_end(name, call, last):
    say("ended", call=name, last=last["stamp"], messages=last["messages"], **told(call))


def read(name, call):
    """Reads to the end, and tells when it flows and how it ended."""
    last = {"stamp": 0, "messages": 0}
    try:
        for message in call:
            last["messages"] += 1
            if isinstance(message, bytes):
                last["stamp"] = max(last["stamp"], stamp_of(message))
            else:
                say("health", call=name, status=message.status)
            if last["messages"] == 1:
                say("flows", call=name)
                if name in goes_on:
                    goes_on[name].wait()
    except grpc.RpcError:
        pass
    tell_end(name, call, last)


def wait(name, call):
    try:
        call.result()
    except grpc.RpcError:
        pass
    tell_end(name, call, {"stamp": 0, "messages": 0})


def stamps(name, piece=b""):
    """A request stream without end; it notes what it was asked for."""
    sent = {"messages": 0}

    def tell_when_stalled():
        before = -1
        while before != sent["messages"]:
            before = sent["messages"]
            time.sleep(0.3)
        say("stalled", call=name, messages=before)

    if piece:
        threading.Thread(target=tell_when_stalled, daemon=True).start()

    def endless():
        while True:
            sent["messages"] += 1
            yield stamp() + piece
            if not piece:
                time.sleep(PACE)

    return endless()


def open(channel, kind, name):
    """Begins a call that does not end by itself."""
    there = channels[channel]
    if kind == "waiting":
        step, call = wait, there.unary_unary(SERVICE + "Wait").future(b"")
    elif kind == "download":
        step, call = read, there.unary_stream(SERVICE + "Ticks")(b"")
    elif kind == "stalled_download":
        goes_on[name] = threading.Event()
        step, call = read, there.unary_stream(SERVICE + "Flood")(b"")
    elif kind == "upload":
        step, call = wait, there.stream_unary(SERVICE + "Count").future(stamps(name))
    elif kind == "stalled_upload":
        step, call = wait, there.stream_unary(SERVICE + "Deaf").future(stamps(name, PIECE))
    elif kind == "talk":
        step, call = read, there.stream_stream(SERVICE + "Talk")(stamps(name))
    elif kind == "health":
        stub = health_pb2_grpc.HealthStub(there)
        step, call = read, stub.Watch(health_pb2.HealthCheckRequest(service="test.Streams"))
    calls[name] = call
    begin(step, name, call)


def read_on(name):
    goes_on[name].set()


def close(channel):
    channels.pop(channel).close()


commands = [channel, unary, upload, download, talk, cancel, health, open, read_on, close]
serve({command.__name__: command for command in commands})
