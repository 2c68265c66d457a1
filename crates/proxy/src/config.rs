//! Settings that are already valid.
//!
//! Made by `portcullis` from flags; read everywhere in this crate. It must never read a flag, file or variable.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Everything the traffic needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients come in and which app they reach.
    pub inbounds: Vec<Inbound>,
    /// Threads that carry sessions, at least 1.
    pub workers: usize,
    /// A CONNECT is forwarded to the app instead of refused.
    pub allow_connect: bool,
    /// Bounds on everything.
    pub limits: Limits,
}

/// One listening socket and the app behind it.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// Where to listen; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// Where the app is.
    pub app: AppAddress,
    /// How the app is spoken to.
    pub protocol: Protocol,
}

/// Where the app listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppAddress {
    /// An IP address and port.
    Socket(SocketAddr),
    /// A host name and port, looked up at each connect.
    Name(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
    /// Wherever the client wanted to go before the kernel sent it to the inbound, if that is one of these ports at one
    /// of these addresses.
    Redirected {
        /// Ports of apps.
        ports: Vec<u16>,
        /// The pod's own.
        pod_addresses: Vec<IpAddr>,
    },
}

/// How the app is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC over HTTP/2 as h2c, the rest as HTTP/1.1.
    Auto,
    /// Everything as HTTP/1.1.
    Http1,
    /// Everything as HTTP/2 with prior knowledge.
    H2c,
    /// Bytes, in both directions; what they mean is none of our business.
    Tcp(Tcp),
}

/// What a TCP inbound does besides carrying bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// The app is told first who its client is, by a PROXY protocol header of version 2.
    pub proxy_protocol: bool,
    /// The one protocol that clients may choose by ALPN; without it none is chosen, whatever they offer.
    pub alpn: Option<String>,
}

impl Protocol {
    /// What clients may choose from by ALPN.
    pub(crate) fn offers(&self) -> Vec<&str> {
        match self {
            Protocol::Auto | Protocol::Http1 | Protocol::H2c => vec!["h2", "http/1.1"],
            Protocol::Tcp(tcp) => tcp.alpn.iter().map(String::as_str).collect(),
        }
    }
}

/// Bounds, each with where its number comes from. Which of them bit is told by `Bound`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections over all workers. Half of the 20,000 descriptors that common container hosts allow, since
    /// a session may hold one more to the app.
    pub connections: usize,
    /// Open connections of one identity over all workers: a tenth of them all, so that one client with a valid
    /// certificate cannot lock out the others.
    pub connections_per_identity: usize,
    /// Handshakes under way over all workers: 1,000 at 0.5 ms each are a second's work of two cores.
    pub handshakes: usize,
    /// From accept to the end of the handshake. nginx gives 60 s; a peer in the same cluster needs less than 1.
    pub handshake: Duration,
    /// From the end of one request, or the handshake, to a whole next request head. nginx gives 60 s.
    pub request_head: Duration,
    /// Bytes of one request head; Tomcat takes 8 kB, Node.js 16, Envoy 60.
    pub header_bytes: usize,
    /// Header fields of one request; Envoy's and hyper's default.
    pub header_count: usize,
    /// A request's body of which no byte comes before its app answers, or once it has in full, and an answer of which
    /// the client takes no byte: nginx' client_body_timeout and send_timeout. Not for gRPC and tunnels, which may be
    /// silent for long.
    pub body: Duration,
    /// Concurrent streams of one HTTP/2 connection; RFC 9113 §6.5.2 recommends no less than 100.
    pub streams: u32,
    /// Concurrent requests of one session. A stream that its client, or h2, has reset counts no more as a stream, but
    /// its request does until it has ended: what CVE-2023-44487 and CVE-2025-8671 live on.
    pub requests_per_session: u32,
    /// Connections to the apps over all workers: what 20,000 descriptors leave beside as many clients as there may be,
    /// with a thousand to spare.
    pub app_connections: usize,
    /// To connect to the app, which is on the same host.
    pub app_connect: Duration,
    /// From the last piece of the request to the response's head.
    pub app_response: Duration,
    /// Idle connections to the app that a worker keeps: as many as ten busy HTTP/2 clients use at once. With 64 of
    /// them, 256 concurrent streams cost 83 µs of CPU a request instead of 30, all of it connecting again.
    pub app_idle_connections: usize,
    /// How long a tunnel whose app has ended waits for a byte of the client, and a WebSocket of which either has for one
    /// of the other; as Linux waits for the other end of a socket that nobody holds any more (tcp_fin_timeout).
    pub tunnel_half_closed: Duration,
    /// How long it keeps one; below the 5 s after which Node.js closes a connection.
    pub app_idle: Duration,
    /// From a cut to the close of the socket (the promise is 50 ms).
    pub notice: Duration,
    /// How long an HTTP/1.1 session is idle before it is parked. Short, so that a burst of new clients reuses the
    /// buffers of those before it; taking up a parked session again costs some 10 µs.
    pub park_after: Duration,
    /// Descriptors that the process may have. Of the last of them none is for a socket of this crate's.
    pub descriptors: u64,
    /// How long before a session's planned end its client is asked to leave, at a moment of its own; zero: never.
    /// 10,000 sessions that end together are then some 450 handshakes a second, a quarter of a core.
    pub drain: Duration,
    /// From a stop to the end of the last request.
    pub stop: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 10_000,
            connections_per_identity: 1_000,
            handshakes: 1_000,
            handshake: Duration::from_secs(10),
            request_head: Duration::from_secs(30),
            header_bytes: 64 * 1024,
            header_count: 100,
            body: Duration::from_secs(60),
            streams: 100,
            requests_per_session: 100,
            app_connections: 9_000,
            app_connect: Duration::from_secs(5),
            app_response: Duration::from_secs(60),
            app_idle_connections: 1024,
            tunnel_half_closed: Duration::from_secs(60),
            app_idle: Duration::from_secs(4),
            notice: Duration::from_millis(40),
            park_after: Duration::from_millis(250),
            descriptors: u64::MAX,
            drain: Duration::from_secs(30),
            stop: Duration::from_secs(10),
        }
    }
}
