"""A crowd of thousands of sessions in front of one Portcullis: its processes, its lists, and what they tell.

Used by `cut`. The proxy, the app, the clients that hold sessions and those that keep asking are processes of their
own, since one process may have 20,000 descriptors; all but the proxy are parts of the example `crowd` of testkit. It
must never decide what a figure means, and never listen anywhere but on loopback.
"""

import contextlib
import datetime
import hashlib
import json
import os
import subprocess
from pathlib import Path

import processes
import proxies
import supplies
from supplies import Unavailable

# Bringing up ten thousand sessions takes half a minute of two cores.
PATIENCE_SECONDS = 300


def program():
    """The example `crowd`, built beside the proxy by `make bench-cut`."""
    path = Path(os.environ.get("CROWD") or supplies.TARGET / "release" / "examples" / "crowd")
    if not os.access(path, os.X_OK):
        raise Unavailable(f"There is no program at {path}: run `cargo build --release -p testkit --example crowd`, "
                          "or set CROWD to the binary.")
    return str(path.resolve())


class Part:
    """A part of the crowd: a process that answers lines of words with lines of JSON."""

    def __init__(self, folder, *words):
        self.name = f"crowd-{words[0]}"
        self.process = processes.start([program(), *map(str, words)], folder / f"{self.name}.log",
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.first = self._heard()

    def ask(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return self._heard()

    def _heard(self):
        line = self.process.stdout.readline()
        if not line:
            raise Unavailable(f"{self.name} ended: {processes.last_words(self.process)}.")
        return json.loads(line)

    def end(self):
        processes.end(self.process)


class Lists:
    """Compiled lists of the same length that name nobody, few and many of the clients, renamed into place."""

    def __init__(self, folder, entries, named):
        self.path, self.fresh = folder / "live" / "list", folder / "fresh"
        self.path.parent.mkdir()
        self.sequence, self.compiled = 0, {}
        serials, issuer = (folder / "serials").read_text().split(), (folder / "issuer").read_text()
        for kind, clients in named.items():
            self.compiled[kind] = self._made(folder, entries, [serials[client] for client in clients], issuer)
        self.prepare("none")
        self.publish()

    @staticmethod
    def _made(folder, entries, serials, issuer):
        now = datetime.datetime.now(datetime.timezone.utc)
        stamp = lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        header = json.dumps({"portcullis": "revocations/v1", "list": "crowd", "sequence": 1, "entries": entries,
                             "issued_at": stamp(now), "expires_at": stamp(now + datetime.timedelta(days=1))})
        # The serials of clients begin with 40 to 7f.
        strangers = [hashlib.sha256(b"%d" % number).hexdigest()[:30] for number in range(entries - len(serials))]
        tail = f'","issuer":"{issuer}"}}\n'
        lines, compiled = folder / "lines", folder / "compiled"
        with open(lines, "w") as file:
            file.write(header + "\n")
            file.writelines(['{"serial":"20' + number + tail for number in strangers])
            file.writelines(['{"serial":"' + number + tail for number in serials])
        subprocess.run([supplies.portcullis(), "revocations", "compile", lines, "--out", compiled], check=True,
                       stdout=subprocess.DEVNULL, timeout=120)
        return compiled.read_bytes().split(b"\n", 1)

    def prepare(self, kind):
        """Writes the next list where the proxy does not look: a publisher's work is no part of the measure."""
        self.sequence += 1
        header, body = self.compiled[kind]
        line = json.dumps({**json.loads(header), "sequence": self.sequence}, separators=(",", ":")).encode()
        with open(self.fresh, "wb") as file:
            file.write(line + b"\n")
            file.write(body)
            file.flush()
            os.fsync(file.fileno())

    def publish(self):
        os.rename(self.fresh, self.path)


class Log:
    """The proxy's log lines, as they are written."""

    def __init__(self, path):
        self.path, self.offset = path, 0

    def new(self):
        """The lines since this was asked last."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            text = file.read()
        whole = text[:text.rfind(b"\n") + 1]
        self.offset += len(whole)
        return [json.loads(line) for line in whole.splitlines() if line.startswith(b"{")]


def nanoseconds(timestamp):
    """A log line's time as nanoseconds since 1970."""
    moment = datetime.datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


class Scene:
    """Certificates, an app and lists; proxies and clients are started in it."""

    def __init__(self, folder, options):
        self.folder, self.options = folder, options
        clients = max(options.weigh, 0 if options.only == "memory" else options.sessions)
        subprocess.run([program(), "mint", folder, str(clients)], check=True, timeout=120)
        self.app = Part(folder, "app")
        self.lists = None

    @contextlib.contextmanager
    def proxy(self, *flags):
        """A proxy with two workers in front of the app."""
        port, observe = proxies.free_port(), proxies.free_port()
        command = [supplies.portcullis(), "run", "--inbound", f"127.0.0.1:{port}=127.0.0.1:{self.app.first['port']}",
                   "--cert", self.folder / "server.pem", "--key", self.folder / "server.key",
                   "--client-ca", self.folder / "root.pem", "--allow-any", "--workers", self.options.workers,
                   "--observe", f"127.0.0.1:{observe}", "--drain-delay", "0s", *flags,
                   *self.options.portcullis_flag]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PORTCULLIS")}
        log = self.folder / f"portcullis-{port}.log"
        process = processes.start([str(word) for word in command], log, clean)
        try:
            processes.wait_until(lambda: proxies._listening(port), process, "portcullis")
            running = proxies.Running("portcullis", process, port)
            running.log = Log(log)
            yield running
        finally:
            processes.end(process)

    @contextlib.contextmanager
    def held(self, proxy, kinds):
        """Clients that hold sessions of these kinds, none open yet."""
        part = Part(self.folder, "hold", self.folder, proxy.port, ",".join(kinds), self.options.every)
        try:
            yield part
        finally:
            part.end()

    @contextlib.contextmanager
    def busy(self, proxy, first):
        """Clients that keep asking."""
        part = Part(self.folder, "busy", self.folder, proxy.port, first, self.options.busy, self.options.rate)
        try:
            yield part
        finally:
            part.end()


def open_sessions(part, proxy, clients):
    """Opens the sessions of these clients, all of them or none of it counts."""
    told = part.ask("open " + " ".join(map(str, clients)))
    if told["failed"] or told["opened"] != len(clients):
        raise Unavailable(f"only {told['opened']} of {len(clients)} sessions came up ({told['first_failure']}); "
                          f"the proxy said: {processes.last_words(proxy.process)}.")
