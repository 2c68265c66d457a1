"""The app and the proxies in front of it: one configuration each, one worker each.

Used by measures.py. All proxies are asked for the same: TLS 1.3, a client certificate vouched for by the
root, HTTP/1.1 and HTTP/2, no resumption, no access log, a keep-alive pool to the app. It must never tune
one of them beyond that, and never listen anywhere but on loopback.
"""

import json
import os
import socket
import urllib.request
from pathlib import Path

import processes
import supplies

NAMES = ("portcullis", "nginx", "haproxy", "envoy")
MEBIBYTE = 1 << 20
# Sizes of the files under /bytes/; sparse, so they cost no disk.
BODIES = {"64M": 64 * MEBIBYTE, "1G": 1024 * MEBIBYTE}

NGINX_COMMON = """
{user}
daemon off;
pid {folder}/{name}.pid;
error_log {folder}/{name}.log error;
worker_processes 1;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/{name}-body;
  proxy_temp_path {folder}/{name}-proxy;
  fastcgi_temp_path {folder}/{name}-fastcgi;
  uwsgi_temp_path {folder}/{name}-uwsgi;
  scgi_temp_path {folder}/{name}-scgi;
  keepalive_timeout 600s;
  keepalive_requests 1000000000;
"""

APP = NGINX_COMMON + """
  sendfile on;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = / {{ default_type text/plain; return 200 "ok\\n"; }}
    location /bytes/ {{ root {folder}/app; default_type application/octet-stream; }}
    location = /served {{ stub_status; }}
  }}
}}
"""

NGINX = NGINX_COMMON + """
  upstream app {{
    server 127.0.0.1:{app};
    keepalive 256;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
  }}
  server {{
    listen 127.0.0.1:{port} ssl http2 backlog=4096;
    ssl_protocols TLSv1.3;
    ssl_certificate {pki}/server-chain.pem;
    ssl_certificate_key {pki}/server.key;
    ssl_verify_client on;
    ssl_verify_depth 3;
    ssl_client_certificate {pki}/root.pem;
    {crl}
    ssl_session_cache off;
    ssl_session_tickets off;
    ssl_conf_command NumTickets 0;
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_max_temp_file_size 0;
    }}
  }}
}}
"""

HAPROXY = """
global
  nbthread 1
  maxconn 8000
  tune.ssl.cachesize 0
defaults
  mode http
  http-reuse always
  timeout connect 5s
  timeout client 600s
  timeout server 600s
frontend gate
  bind 127.0.0.1:{port} backlog 4096 ssl crt {pki}/server-bundle.pem ca-file {pki}/root.pem verify required {crl} ssl-min-ver TLSv1.3 no-tls-tickets alpn h2,http/1.1
  default_backend app
backend app
  server app 127.0.0.1:{app}
"""

# HAProxy's `no-tls-tickets` only changes the kind of its TLS 1.3 tickets; OpenSSL's own defaults end them.
NO_TICKETS = """
openssl_conf = begin
[begin]
ssl_conf = contexts
[contexts]
system_default = every_context
[every_context]
NumTickets = 0
"""


class Running:
    """A started proxy or app."""

    def __init__(self, name, process, port):
        self.name, self.process, self.port = name, process, port

    def cpu_seconds(self):
        return processes.cpu_seconds(processes.family(self.process.pid))

    def memory_bytes(self):
        return processes.memory_bytes(processes.family(self.process.pid))

    def end(self):
        processes.end(self.process)


def free_port():
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _started(name, command, folder, port, environment=None):
    process = processes.start(command, folder / f"{name}.log", environment)
    processes.wait_until(lambda: _listening(port), process, name)
    return Running(name, process, port)


def _run_as():
    # As root, nginx would give its worker to another user, who may not read the temporary folder.
    return "user root;" if os.geteuid() == 0 else ""


def start_app(folder):
    """The application behind every proxy: answers `/` from memory and `/bytes/…` from sparse files."""
    bodies = folder / "app" / "bytes"
    bodies.mkdir(parents=True)
    for name, size in BODIES.items():
        with open(bodies / name, "wb") as body:
            body.truncate(size)
    port = free_port()
    configuration = folder / "app.conf"
    configuration.write_text(APP.format(folder=folder, name="app", port=port, user=_run_as()))
    return _started("app", [supplies.program("nginx"), "-c", str(configuration), "-e", str(folder / "app.log")],
                    folder, port)


def served(app):
    """How many requests the app has answered, this question not included."""
    with urllib.request.urlopen(f"http://127.0.0.1:{app.port}/served", timeout=10) as answer:
        return int(answer.read().split()[9]) - 1


class Stage:
    """Everything a proxy needs at its start: folders, the app, and the user's extra flags."""

    def __init__(self, folder, app, portcullis_flags=()):
        self.folder, self.app, self.portcullis_flags = folder, app, list(portcullis_flags)
        self.pki = folder / "pki"
        # Another revocation file than those of revocations.py, and where the last Portcullis tells of itself.
        self.listing, self.observe_port = None, None

    def start(self, name, revocations=None):
        """Starts a proxy; `revocations` is None, "none" (an empty list) or "many"."""
        port = free_port()
        command, environment = getattr(self, f"_{name}")(port, revocations)
        return _started(name, command, self.folder, port, environment)

    def _portcullis(self, port, revocations):
        # Portcullis never runs without a list here: its empty one stands against no list in the peers.
        listing = self.listing or self.pki / f"{revocations or 'none'}.jsonl"
        self.observe_port = free_port()
        command = [supplies.portcullis(), "run", "--inbound", f"127.0.0.1:{port}=127.0.0.1:{self.app.port}",
                   "--cert", self.pki / "server-chain.pem", "--key", self.pki / "server.key",
                   "--client-ca", self.pki / "root.pem", "--allow-any", "--revocations", listing,
                   "--workers", "1", "--observe", f"127.0.0.1:{self.observe_port}", "--drain-delay", "0s",
                   # All the clients of a measure show one certificate.
                   "--max-connections-per-identity", "10000", *self.portcullis_flags]
        # Flags have twins in the environment; whatever the caller has there must not change the measure.
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PORTCULLIS")}
        return [str(word) for word in command], clean

    def _nginx(self, port, revocations):
        crl = f"ssl_crl {self.pki}/{revocations}.crl;" if revocations else ""
        text = NGINX.format(folder=self.folder, name="nginx", port=port, app=self.app.port, pki=self.pki,
                            crl=crl, user=_run_as())
        configuration = self._written("nginx.conf", text)
        return [supplies.program("nginx"), "-c", configuration, "-e", str(self.folder / "nginx.log")], None

    def _haproxy(self, port, revocations):
        crl = f"crl-file {self.pki}/{revocations}.crl" if revocations else ""
        text = HAPROXY.format(port=port, app=self.app.port, pki=self.pki, crl=crl)
        environment = {**os.environ, "OPENSSL_CONF": self._written("no-tickets.cnf", NO_TICKETS)}
        return [supplies.program("haproxy"), "-db", "-q", "-f", self._written("haproxy.cfg", text)], environment

    def _envoy(self, port, revocations):
        configuration = self._written("envoy.json", json.dumps(_envoy_bootstrap(self, port, revocations)))
        return [supplies.envoy(), "-c", configuration, "--concurrency", "1", "--disable-hot-restart",
                "--log-level", "error"], None

    def _written(self, name, text):
        path = Path(self.folder / name)
        path.write_text(text)
        return str(path)


def _envoy_bootstrap(stage, port, revocations):
    listen = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    extensions = "type.googleapis.com/envoy.extensions"
    trust = {"trusted_ca": {"filename": f"{stage.pki}/root.pem"}}
    if revocations:
        trust["crl"] = {"filename": f"{stage.pki}/{revocations}.crl"}
    tls = {"@type": f"{extensions}.transport_sockets.tls.v3.DownstreamTlsContext",
           "require_client_certificate": True,
           "disable_stateless_session_resumption": True, "disable_stateful_session_resumption": True,
           "common_tls_context": {
               "alpn_protocols": ["h2", "http/1.1"],
               "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
               "tls_certificates": [{"certificate_chain": {"filename": f"{stage.pki}/server-chain.pem"},
                                     "private_key": {"filename": f"{stage.pki}/server.key"}}],
               "validation_context": trust}}
    router = {"name": "router", "typed_config": {"@type": f"{extensions}.filters.http.router.v3.Router"}}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "600s"}}
    traffic = {"@type": f"{extensions}.filters.network.http_connection_manager.v3.HttpConnectionManager",
               "stat_prefix": "gate", "http_filters": [router],
               "route_config": {"virtual_hosts": [{"name": "app", "domains": ["*"], "routes": [route]}]}}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": stage.app.port}}
    cluster = {"name": "app", "connect_timeout": "5s",
               "load_assignment": {"cluster_name": "app", "endpoints": [
                   {"lb_endpoints": [{"endpoint": {"address": address}}]}]}}
    listener = {"name": "gate", "address": listen, "filter_chains": [{
        "transport_socket": {"name": "tls", "typed_config": tls},
        "filters": [{"name": "traffic", "typed_config": traffic}]}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
