"""HTTP/2 by the h2 library, with a certificate. Started by the tests of paths with the stage's folder.

The library keeps the protocol; which windows open and what is sent is said here, so that a stream can be stalled. It must
never take a connection that broke for one that was closed.
"""

import select
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import websockets.frames
import websockets.protocol

from lines import begin, say, serve, stamp, stamp_of

PACE = 0.02
PIECE = bytes(8192)

folder = Path(sys.argv[1])
connections = {}


class Stream:
    """What came on one stream."""

    def __init__(self, name, reads):
        self.name, self.reads = name, reads
        self.status, self.body, self.trailers, self.received, self.end = None, b"", {}, 0, None
        self.websocket, self.last = None, 0


class Connection:
    def __init__(self, name, address, certificate):
        context = ssl.create_default_context(cafile=folder / "server_root.pem")
        context.load_cert_chain(folder / f"{certificate}.pem", folder / f"{certificate}.key")
        context.set_alpn_protocols(["h2"])
        host, port = address.rsplit(":", 1)
        self.sock = context.wrap_socket(
            socket.create_connection((host, int(port)), timeout=30),
            server_hostname="localhost", suppress_ragged_eofs=False,
        )
        self.sock.setblocking(False)
        self.name, self.goaway, self.over = name, None, threading.Event()
        self.streams = {}
        self.lock = threading.Lock()
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        with self.lock:
            self.h2.initiate_connection()
            # A stalled stream must stall no other.
            self.h2.increment_flow_control_window(1 << 28)
            self.flush()
        begin(self.read)

    def flush(self):
        data = self.h2.data_to_send()
        while data:
            try:
                data = data[self.sock.send(data):]
            except ssl.SSLWantWriteError:
                select.select([], [self.sock], [])

    def receive(self):
        """What came; `None` if nothing is there yet. One thread at a time may use a TLS object."""
        try:
            data = self.sock.recv(65536)
        except ssl.SSLWantReadError:
            return None
        for event in self.h2.receive_data(data):
            self.take(event)
        self.flush()
        return data

    def read(self):
        end, data = "closed", None
        try:
            while data != b"":
                if data is None:
                    select.select([self.sock], [], [])
                with self.lock:
                    data = self.receive()
        except ssl.SSLEOFError:
            end = "broken off"
        except ConnectionResetError:
            end = "reset"
        except (OSError, h2.exceptions.ProtocolError) as error:
            end = f"{type(error).__name__}: {error}"
        self.over.set()
        for stream in self.streams.values():
            self.tell(stream, "connection")
        say("closed", call=self.name, end=end, goaway=self.goaway)

    def take(self, event):
        stream = self.streams.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = int(event.error_code)
        elif stream is None:
            return
        elif isinstance(event, h2.events.ResponseReceived):
            stream.status = int(dict(event.headers)[":status"])
        elif isinstance(event, h2.events.TrailersReceived):
            stream.trailers = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            stream.received += len(event.data)
            stream.body = (stream.body + event.data)[:64]
            if stream.websocket:
                stream.websocket.receive_data(event.data)
                for frame in stream.websocket.events_received():
                    if frame.opcode is websockets.frames.Opcode.BINARY:
                        stream.last = max(stream.last, stamp_of(frame.data))
                self.say_frames(event.stream_id)
            if stream.reads:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if stream.received == len(event.data):
                say("flows", call=stream.name)
            if not stream.reads and self.h2.remote_flow_control_window(event.stream_id) == 0:
                say("stalled", call=stream.name)
        elif isinstance(event, h2.events.StreamEnded):
            self.tell(stream, "whole")
        elif isinstance(event, h2.events.StreamReset):
            self.tell(stream, f"reset {int(event.error_code)}")

    def tell(self, stream, end):
        if stream.end is None:
            stream.end = end
            told = stream.websocket
            close = [told.close_rcvd.code, told.close_rcvd.reason] if told and told.close_rcvd else None
            say("ended", call=stream.name, end=end, status=stream.status, body=stream.body.decode("latin-1"),
                trailers=stream.trailers, received=stream.received, close=close, last=stream.last)

    def request(self, name, method, path, reads=True):
        with self.lock:
            number = self.h2.get_next_available_stream_id()
            self.streams[number] = Stream(name, reads)
            head = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)]
            self.h2.send_headers(number, head, end_stream=method == "GET")
            self.flush()
        return number

    def connect(self, name, path):
        """Opens a WebSocket over one stream (RFC 8441); its frames are those of the websockets library."""
        with self.lock:
            number = self.h2.get_next_available_stream_id()
            self.streams[number] = Stream(name, True)
            self.streams[number].websocket = websockets.protocol.Protocol(websockets.protocol.Side.CLIENT)
            head = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"),
                    (":authority", "localhost"), (":path", path), ("sec-websocket-version", "13")]
            self.h2.send_headers(number, head)
            self.flush()
        return number

    def say_frames(self, number):
        """Sends what the WebSocket has to say; a stream that has ended takes nothing any more."""
        for data in self.streams[number].websocket.data_to_send():
            if data and self.streams[number].end is None:
                try:
                    self.h2.send_data(number, data)
                except h2.exceptions.ProtocolError:
                    return

    def talk(self, number):
        """Sends stamps as messages until the stream ends."""
        stream = self.streams[number]
        while stream.end is None and not self.over.is_set():
            with self.lock:
                open = stream.websocket.state is websockets.protocol.State.OPEN
                if stream.status == 200 and open:
                    stream.websocket.send_binary(stamp())
                    self.say_frames(number)
                    try:
                        self.flush()
                    except OSError:
                        return
            time.sleep(PACE)

    def upload(self, number, piece):
        """Sends until the stream ends, as much as the window lets; tells once it lets nothing any more."""
        name, told = self.streams[number].name, False
        while self.streams[number].end is None and not self.over.is_set():
            try:
                with self.lock:
                    block = stamp() + piece
                    if self.h2.local_flow_control_window(number) >= len(block):
                        self.h2.send_data(number, block)
                        self.flush()
                    elif not told:
                        told = True
                        say("stalled", call=name)
            except (OSError, h2.exceptions.ProtocolError):
                return
            time.sleep(0 if piece and not told else PACE)


def connect(connection, address, certificate):
    connections[connection] = Connection(connection, address, certificate)


def open(connection, kind, name):
    there = connections[connection]
    if kind == "idle":
        there.request(name, "GET", "/hello")
    elif kind == "waiting":
        there.request(name, "GET", "/slow/60000")
    elif kind == "download":
        there.request(name, "GET", "/stream/8")
    elif kind == "stalled_download":
        there.request(name, "GET", "/bytes/10000000000", reads=False)
    elif kind == "upload":
        begin(there.upload, there.request(name, "POST", "/upload"), b"")
    elif kind in ("talk", "hush"):
        begin(there.talk, there.connect(name, f"/{kind}"))
    elif kind == "stalled_upload":
        begin(there.upload, there.request(name, "POST", "/deaf"), PIECE)


serve({"connect": connect, "open": open})
