"""HTTP/1.1 by Python's own http.client, with a certificate. Started by the tests of paths with the stage's folder.

Each call has a connection of its own, and may show a certificate of its own. It must never take a connection that broke
for one that was closed: Python would forgive a missing close_notify.
"""

import http.client
import select
import ssl
import sys
import time
from pathlib import Path

from lines import begin, say, serve, stamp, stamp_of

PACE = 0.02

folder = Path(sys.argv[1])


class Connection(http.client.HTTPSConnection):
    """http.client's, over TLS that tells an end without close_notify from a clean one."""

    def __init__(self, address, certificate):
        context = ssl.create_default_context(cafile=folder / "server_root.pem")
        context.load_cert_chain(folder / f"{certificate}.pem", folder / f"{certificate}.key")
        super().__init__("localhost", int(address.rsplit(":", 1)[1]), context=context, timeout=120)
        self._tls = context

    def connect(self):
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname="localhost", suppress_ragged_eofs=False)


def end_of(sock):
    """Reads to the end of the connection, and tells how it came."""
    try:
        while sock.recv(65536):
            pass
        return "closed"
    except ssl.SSLEOFError:
        return "broken off"
    except ConnectionResetError:
        return "reset"
    except (ssl.SSLError, OSError) as error:
        return f"{type(error).__name__}: {error}"


def answer_of(connection, sock):
    # http.client closes a connection that the server will close; this keeps it open, so that the close can be seen.
    kept = sock.makefile("rb")
    response = connection.getresponse()
    body = response.read().decode()
    end = end_of(sock)
    kept.close()
    return {"status": response.status, "body": body, "closes": response.getheader("connection"), "end": end}


def idle(name, address, certificate):
    connection = Connection(address, certificate)
    connection.request("GET", "/hello")
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"hello")
    say("flows", call=name)
    say("ended", call=name, end=end_of(connection.sock))


def waiting(name, address, certificate):
    connection = Connection(address, certificate)
    connection.request("GET", "/slow/60000")
    sock = connection.sock
    say("flows", call=name)
    say("ended", call=name, **answer_of(connection, sock))


def download(name, address, certificate, path="/stream/8"):
    connection = Connection(address, certificate)
    connection.request("GET", path)
    sock, response = connection.sock, connection.getresponse()
    received = 0
    try:
        while piece := response.read1(65536):
            received += len(piece)
            if received == len(piece):
                say("flows", call=name)
        end = "whole"
    except ssl.SSLEOFError:
        end = "broken off"
    except ConnectionResetError:
        end = "reset"
    except http.client.HTTPException as error:
        end = type(error).__name__
    say("ended", call=name, status=response.status, end=end)
    sock.close()


def upload(name, address, certificate, path="/upload"):
    """Sends stamped pieces until an answer comes, which a client has to look for while it sends (RFC 9112 §9.5)."""
    connection = Connection(address, certificate)
    connection.putrequest("POST", path)
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    sock = connection.sock
    say("flows", call=name)
    try:
        while not select.select([sock], [], [], PACE)[0]:
            connection.send(b"8\r\n" + stamp() + b"\r\n")
    except OSError:
        pass
    say("ended", call=name, **answer_of(connection, sock))


kinds = {"idle": idle, "waiting": waiting, "download": download, "upload": upload}


def open(kind, name, address, certificate):
    begin(kinds[kind], name, address, certificate)


serve({"open": open})
