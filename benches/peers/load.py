"""The clients: wrk, h2load and the rig's own `dial`, each with a client certificate.

Used by measures.py. Every run here fails loudly when a single answer was not a 200: a proxy that refuses
is cheap, and must never look fast. Nothing here reads what a proxy costs.
"""

import contextlib
import json
import os
import re
import subprocess
import time

import processes
import proxies
import supplies
from supplies import Unavailable

# Few enough that their handshakes vanish, many enough that a proxy always has work waiting.
HTTP1_CONNECTIONS = 32
HTTP2_CONNECTIONS, HTTP2_STREAMS = 8, 32
DIAL_THREADS = 8
# The part of a run at its start and end that is not counted: connecting, and the last answers.
RUN_UP, RUN_OUT = 0.4, 0.2


class Clients:
    """The compiled clients and the credentials they may present."""

    def __init__(self, folder):
        self.folder, self.pki = folder, folder / "pki"
        self.dial = supplies.compiled("dial.c", "-pthread", "-lssl", "-lcrypto")
        self.shim = supplies.compiled("shim.c", "-shared", "-fPIC", "-lssl", "-ldl")

    def _environment(self, credential, **more):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PEER_")}
        if credential:
            chain = self.pki / f"{credential}-chain.pem"
            environment["PEER_CERT"] = str(chain if chain.exists() else self.pki / f"{credential}.pem")
            environment["PEER_KEY"] = str(self.pki / f"{credential}.key")
        return {**environment, **more}

    def _dial_command(self, mode, proxy, path, count):
        return [self.dial, mode, str(proxy.port), path, str(count), str(min(DIAL_THREADS, count))]

    def attempt(self, proxy, credential):
        """One connection and request with this credential (None: none); the outcome as `dial` tells it."""
        command = self._dial_command("handshakes", proxy, "/", 1)
        outcome = subprocess.run(command, env=self._environment(credential), stdin=subprocess.DEVNULL,
                                 capture_output=True, text=True, timeout=60)
        if outcome.returncode != 0:
            raise Unavailable(f"`dial` failed: {outcome.stderr.strip()}.")
        return json.loads(outcome.stdout)

    def handshakes(self, proxy, count):
        """`count` new connections with one request each; returns how many."""
        return self._dialled("handshakes", proxy, "/", count)["ok"]

    def bulk(self, proxy, body, count):
        """`count` downloads over kept connections; returns the bytes of all bodies."""
        told = self._dialled("bulk", proxy, f"/bytes/{body}", count, threads=2)
        if told["bytes"] != count * proxies.BODIES[body]:
            raise Unavailable(f"{proxy.name} delivered {told['bytes']} bytes of {count * proxies.BODIES[body]}.")
        return told["bytes"]

    def _dialled(self, mode, proxy, path, count, threads=DIAL_THREADS):
        command = self._dial_command(mode, proxy, path, count)
        command[-1] = str(min(threads, count))
        process = self._client(command, "dial")
        return self._checked(mode, proxy, count, json.loads(self._finished(process, "dial", 120)))

    @contextlib.contextmanager
    def held(self, proxy, count):
        """`count` connections that each made one request and stay open inside the `with`."""
        process = self._client(self._dial_command("hold", proxy, "/", count), "dial", stdin=subprocess.PIPE)
        try:
            self._checked("hold", proxy, count, json.loads(process.stdout.readline() or "{}"))
            yield
        finally:
            processes.end(process)

    def _checked(self, mode, proxy, count, told):
        if told.get("ok") != count or told["failed"]:
            raise Unavailable(f"{proxy.name} answered only {told.get('ok', 0)} of {count} requests of `{mode}` with "
                              f"200 ({told.get('first_failure', 'the client died')}); it said: "
                              f"{processes.last_words(proxy.process)}.")
        if told["tickets"] or told["resumed"]:
            raise Unavailable(f"{proxy.name} gave {told['tickets']} session tickets and resumed {told['resumed']} "
                              "sessions, so its handshakes cannot be compared.")
        return told

    def _client(self, command, name, stdin=subprocess.DEVNULL, **environment):
        return processes.start(command, self.folder / f"{name}.log", self._environment("client", **environment),
                               stdout=subprocess.PIPE, stdin=stdin)

    @staticmethod
    def _finished(process, name, seconds):
        try:
            output = process.communicate(timeout=seconds)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            raise Unavailable(f"`{name}` did not end within {seconds} s.") from None
        finally:
            processes.end(process)
        if process.returncode != 0:
            raise Unavailable(f"`{name}` ended with status {process.returncode}: {processes.last_words(process)}.")
        return output

    def http1(self, proxy, seconds, watch):
        """wrk for so long; returns what `watch` saw change between the run's start and its end."""
        command = [supplies.program("wrk"), "-t1", f"-c{HTTP1_CONNECTIONS}", f"-d{seconds}", "--timeout", "10",
                   "-s", str(supplies.HERE / "finished.lua"), f"https://127.0.0.1:{proxy.port}/"]
        seen, output = self._watched(command, "wrk", seconds, watch)
        told = json.loads(output.strip().splitlines()[-1])
        if told["failed"] or told["ok"] < seen[1]:
            raise Unavailable(f"{proxy.name} answered {told['ok']} requests of wrk with 200, {told['failed']} failed.")
        return seen

    def http2(self, proxy, seconds, watch):
        """The same with h2load and its many streams."""
        command = [supplies.program("h2load"), "-t1", f"-c{HTTP2_CONNECTIONS}", f"-m{HTTP2_STREAMS}",
                   f"-D{seconds}", f"https://127.0.0.1:{proxy.port}/"]
        seen, output = self._watched(command, "h2load", seconds, watch)
        # At the end of a timed run h2load calls the requests still under way neither failed nor answered.
        codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output)
        failed = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", output)
        if "Application protocol: h2\n" not in output or not codes or not failed:
            raise Unavailable(f"{proxy.name} did not speak HTTP/2 with h2load: {processes.last_words(proxy.process)}.")
        good, *bad = map(int, (*codes.groups(), *failed.groups()))
        if any(bad) or good < seen[1]:
            raise Unavailable(f"{proxy.name} answered {good} requests of h2load with 2xx, {sum(bad)} others.")
        return seen

    def _watched(self, command, name, seconds, watch):
        process = self._client(command, name, LD_PRELOAD=self.shim)
        began = time.monotonic()
        time.sleep(RUN_UP)
        first = watch()
        time.sleep(max(0.1, began + seconds - RUN_OUT - time.monotonic()))
        last = watch()
        output = self._finished(process, name, 60)
        return tuple(after - before for before, after in zip(first, last)), output
