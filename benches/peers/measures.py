"""The measures: what a proxy costs per request, per handshake, per gigabyte and per idle connection.

Used by `run`. Each measure takes the names of proxies, starts them afresh, proves that they really demand a
client certificate, and returns one figure for each. It must never report a figure from a run in which a
request failed.
"""

import contextlib
import time
from dataclasses import dataclass

import processes
import proxies
from supplies import Unavailable

# Envoy takes the same CRLs, but the comparison asked for is with the two proxies that build on OpenSSL.
WITH_REVOCATIONS = ("portcullis", "nginx", "haproxy")
# Contenders stop taking turns after so many seconds, whether or not they have used their CPU time.
PATIENCE_SECONDS = 90


@dataclass
class Effort:
    """How long each measure works."""

    cpu_seconds: float
    run_seconds: int
    connections: int
    rounds: int


# A clock tick is 10 ms, so three seconds are known to a third of a percent; they also make several turns.
FULL = Effort(cpu_seconds=3.0, run_seconds=2, connections=2000, rounds=3)
QUICK = Effort(cpu_seconds=0.3, run_seconds=2, connections=500, rounds=1)


class Measures:
    """All measures over one stage, with one effort."""

    def __init__(self, stage, clients, effort):
        self.stage, self.clients, self.effort = stage, clients, effort

    @contextlib.contextmanager
    def _proven(self, name, revocations=None):
        """A started proxy that answers the right client and nobody else."""
        proxy = self.stage.start(name, revocations)
        try:
            attempt = self.clients.attempt
            processes.wait_until(lambda: attempt(proxy, "client")["ok"] == 1, proxy.process, name)
            refused = [(None, "a client without a certificate"), ("stranger", "a stranger's certificate")]
            if revocations == "many":
                refused.append(("revoked", "a revoked certificate"))
            for credential, whom in refused:
                if attempt(proxy, credential)["ok"]:
                    raise Unavailable(f"{name} let {whom} pass, so its figures would mean nothing.")
            if revocations == "none" and not attempt(proxy, "revoked")["ok"]:
                raise Unavailable(f"{name} refused a certificate that its empty list does not name, so its refusal "
                                  "with the long list would prove nothing.")
            yield proxy
        finally:
            proxy.end()

    def _in_turns(self, work):
        """Lets all contenders work in short turns until each has used enough CPU time.

        `work` maps contender → function that works once and returns (CPU seconds, units); the answer maps
        contender → CPU seconds per unit. Neighbours on the same hardware slow a virtual machine by half for
        seconds on end: in short turns all contenders suffer alike, so their ratios hold.
        """
        spent = {contender: [0.0, 0] for contender in work}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while min(cpu for cpu, _ in spent.values()) < self.effort.cpu_seconds:
            if time.monotonic() > deadline:
                # A busy machine gets a coarser figure; below a quarter of the aim it would be a guess.
                if min(cpu for cpu, _ in spent.values()) >= self.effort.cpu_seconds / 4:
                    break
                raise Unavailable(f"A proxy got less than {self.effort.cpu_seconds / 4} s of CPU time in "
                                  f"{PATIENCE_SECONDS} s: the machine is too busy to measure.")
            for contender, once in work.items():
                cpu, units = once()
                spent[contender][0] += cpu
                spent[contender][1] += units
        return {contender: cpu / units for contender, (cpu, units) in spent.items()}

    def _compared(self, names, turn, scale):
        """A figure for each proxy; `turn` makes the function of `_in_turns` from a proxy, warming it up."""
        with contextlib.ExitStack() as running:
            started = {name: running.enter_context(self._proven(name)) for name in names}
            costs = self._in_turns({name: turn(proxy) for name, proxy in started.items()})
            return {name: cost * scale for name, cost in costs.items()}

    def _watch(self, proxy):
        """CPU time of the proxy and requests the app has answered, as of one moment."""
        before = proxy.cpu_seconds()
        count = proxies.served(self.stage.app)
        # The question waits its turn at a busy app: the middle of the two readings belongs to its answer.
        return (before + proxy.cpu_seconds()) / 2, count

    def _steady(self, load):
        return lambda proxy: lambda: load(proxy, self.effort.run_seconds, lambda: self._watch(proxy))

    def http1(self, names):
        """Microseconds of CPU time per HTTP/1.1 request on kept connections."""
        return self._compared(names, self._steady(self.clients.http1), 1e6)

    def http2(self, names):
        """Microseconds of CPU time per HTTP/2 request on kept connections."""
        return self._compared(names, self._steady(self.clients.http2), 1e6)

    def _counted(self, proxy, first, load):
        """Work whose amount is set beforehand, growing until a turn is a fair part of the whole."""
        size = first
        load(proxy, max(1, first // 4))

        def work():
            nonlocal size
            before = proxy.cpu_seconds()
            units = load(proxy, size)
            used = proxy.cpu_seconds() - before
            if used < self.effort.cpu_seconds / 8:
                size *= 2
            return used, units

        return work

    def handshake(self, names):
        """Microseconds of CPU time per new connection: full handshake, one request, close."""
        return self._compared(names, lambda proxy: self._counted(proxy, 100, self.clients.handshakes), 1e6)

    def bulk(self, names):
        """Seconds of CPU time per gigabyte (10⁹ bytes) of response body."""
        download = lambda proxy, count: self.clients.bulk(proxy, "64M", count)
        return self._compared(names, lambda proxy: self._counted(proxy, 4, download), 1e9)

    def idle(self, names):
        """Kilobytes (1,000 bytes) of memory per idle keep-alive connection."""
        return {name: self._idle(name) for name in names}

    def _idle(self, name):
        with self._proven(name) as proxy:
            # What a proxy allocates once, for its first connections, is not the price of the later ones.
            self.clients.handshakes(proxy, 64)
            before = self._settled_memory(proxy)
            with self.clients.held(proxy, self.effort.connections):
                return (self._settled_memory(proxy) - before) / self.effort.connections / 1e3

    @staticmethod
    def _settled_memory(proxy):
        """Memory once it no longer moves: a proxy may set idle connections aside only after a moment."""
        deadline = time.monotonic() + 8
        time.sleep(1)
        last = proxy.memory_bytes()
        while time.monotonic() < deadline:
            time.sleep(0.5)
            now = proxy.memory_bytes()
            if abs(now - last) <= 0.002 * last:
                return now
            last = now
        return last

    def revocations(self, names):
        """Microseconds per handshake, as pairs: with an empty list and with the long one."""
        return {name: self._with_and_without(name) for name in names if name in WITH_REVOCATIONS}

    def _with_and_without(self, name):
        with self._proven(name, "none") as empty, self._proven(name, "many") as loaded:
            costs = self._in_turns({proxy: self._counted(proxy, 16, self.clients.handshakes)
                                    for proxy in (empty, loaded)})
            return tuple(costs[proxy] * 1e6 for proxy in (empty, loaded))
