//! `--inbound LISTEN=APP[,protocol=…][,…]`: where clients come in and which app they reach.
//!
//! Called by `resolve.rs` for each value. It must never look a name up: the app's host is looked up at each connect.

use std::net::SocketAddr;
use std::path::PathBuf;

use proxy::{AppAddress, Inbound, Protocol, Tcp};

/// sun_path of unix(7) has 108 bytes, the last of them zero.
const LONGEST_SOCKET_PATH: usize = 107;

/// Reads one value; an error completes "--inbound … : ".
pub(crate) fn parse(text: &str) -> Result<Inbound, String> {
    let (listen, rest) =
        text.split_once('=').ok_or("write LISTEN=APP, like 0.0.0.0:8443=127.0.0.1:8080 or [::]:8443=unix:/run/app")?;
    let listen = listen_address(listen)?;
    let mut parts = rest.split(',');
    let app = app_address(parts.next().unwrap_or(""))?;
    let protocol = protocol_of(&Options::parse(parts)?)?;
    if let AppAddress::Redirected { ports, .. } = &app
        && ports.contains(&listen.port())
    {
        return Err(format!("{} is both listened on and an app's; the app needs one of its own", listen.port()));
    }
    if comes_back(listen, &app) {
        return Err("LISTEN and APP are the same address; the app needs one of its own".to_owned());
    }
    Ok(Inbound { listen, app, protocol })
}

/// Whether what is sent to the app would arrive at `listen`.
fn comes_back(listen: SocketAddr, app: &AppAddress) -> bool {
    let own = listen.ip();
    match app {
        AppAddress::Socket(app) => {
            let all = own.is_unspecified() && own.is_ipv4() == app.is_ipv4();
            listen.port() == app.port() && (app.ip() == own || (all && app.ip().is_loopback()))
        }
        AppAddress::Name(host, port) => {
            let here = own.is_unspecified() || own.is_loopback();
            listen.port() == *port && here && host.eq_ignore_ascii_case("localhost")
        }
        AppAddress::Unix(_) | AppAddress::Redirected { .. } => false,
    }
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no address to listen on; write IP:PORT, like 0.0.0.0:8443 or [::1]:8443"))
}

/// The pod's addresses come from another flag.
fn redirected(text: &str) -> Result<AppAddress, String> {
    let mut ports = Vec::new();
    for text in text.split('+') {
        match text.parse() {
            Ok(port) if port > 0 && !ports.contains(&port) => ports.push(port),
            Ok(_) | Err(_) => {
                return Err(format!("{text:?} is no port of an app, or stands twice; write redirect:8080+9090"));
            }
        }
    }
    Ok(AppAddress::Redirected { ports, pod_addresses: Vec::new() })
}

fn app_address(text: &str) -> Result<AppAddress, String> {
    if let Some(ports) = text.strip_prefix("redirect:") {
        return redirected(ports);
    }
    if let Some(path) = text.strip_prefix("unix:") {
        if !path.starts_with('/') || path.len() > LONGEST_SOCKET_PATH {
            return Err(format!("the socket {path:?} must be an absolute path of at most {LONGEST_SOCKET_PATH} bytes"));
        }
        return Ok(AppAddress::Unix(PathBuf::from(path)));
    }
    let wrong = || {
        format!("{text:?} is no app; write host:port, like 127.0.0.1:8080, [::1]:8080 or localhost:8080, or unix:/path")
    };
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 { Err(wrong()) } else { Ok(AppAddress::Socket(address)) };
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse::<u16>().ok()).flatten();
    match port {
        Some(port) if port > 0 && is_host_name(host) => Ok(AppAddress::Name(host.to_owned(), port)),
        _ => Err(wrong()),
    }
}

/// RFC 1123 §2.1, with the underscore that service names carry. A name whose last label is a number is refused: it
/// would be an IPv4 address misspelt, and libc reads `127.1` and `0x7f.1` as one (RFC 3696 §2).
fn is_host_name(host: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let mut labels = host.strip_suffix('.').unwrap_or(host).split('.');
    let whole = |label: &str| !label.is_empty() && label.len() <= 63 && label.bytes().all(plain);
    let numeric = |label: &str| label.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
    host.len() <= 253 && labels.clone().all(whole) && !labels.next_back().is_some_and(numeric)
}

/// What follows the app, as text.
#[derive(Default)]
struct Options<'a> {
    protocol: Option<&'a str>,
    proxy_protocol: Option<&'a str>,
    alpn: Option<&'a str>,
}

impl<'a> Options<'a> {
    fn parse(texts: impl Iterator<Item = &'a str>) -> Result<Options<'a>, String> {
        let mut options = Options::default();
        for text in texts {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            let place = match name {
                "protocol" => &mut options.protocol,
                "proxy-protocol" => &mut options.proxy_protocol,
                "alpn" => &mut options.alpn,
                _ => {
                    return Err(format!(
                        "the option {text:?} is not known; there is protocol=auto|http1|h2c|tcp, and with tcp \
                         proxy-protocol=v2 and alpn=NAME"
                    ));
                }
            };
            if place.replace(value).is_some() {
                return Err(format!("the option {name} stands twice; write it once"));
            }
        }
        Ok(options)
    }
}

fn protocol_of(options: &Options<'_>) -> Result<Protocol, String> {
    let http = match options.protocol {
        None | Some("auto") => Protocol::Auto,
        Some("http1") => Protocol::Http1,
        Some("h2c") => Protocol::H2c,
        Some("tcp") => return tcp(options).map(Protocol::Tcp),
        Some(other) => return Err(format!("protocol={other} is not known; choose auto, http1, h2c or tcp")),
    };
    let alien = options.proxy_protocol.map(|_| "proxy-protocol").or(options.alpn.map(|_| "alpn"));
    alien
        .map_or(Ok(http), |name| Err(format!("the option {name} goes with protocol=tcp; add that or leave {name} out")))
}

fn tcp(options: &Options<'_>) -> Result<Tcp, String> {
    let proxy_protocol = match options.proxy_protocol {
        None => false,
        Some("v2") => true,
        Some(other) => return Err(format!("proxy-protocol={other} is not known; write proxy-protocol=v2")),
    };
    // RFC 7301 §3.1: 1 to 255 bytes; a name that people can write has no blanks.
    let is_name = |name: &str| (1..=255).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    match options.alpn {
        Some(name) if !is_name(name) => {
            Err(format!("alpn={name} names no protocol; write what clients offer, like alpn=postgresql"))
        }
        alpn => Ok(Tcp { proxy_protocol, alpn: alpn.map(str::to_owned) }),
    }
}

/// An inbound as the flag spells it.
pub(crate) fn written(inbound: &Inbound) -> String {
    let app = match &inbound.app {
        AppAddress::Socket(address) => address.to_string(),
        AppAddress::Name(host, port) => format!("{host}:{port}"),
        AppAddress::Unix(path) => format!("unix:{}", path.display()),
        AppAddress::Redirected { ports, .. } => {
            format!("redirect:{}", ports.iter().map(u16::to_string).collect::<Vec<_>>().join("+"))
        }
    };
    let protocol = match &inbound.protocol {
        Protocol::Auto => "auto".to_owned(),
        Protocol::Http1 => "http1".to_owned(),
        Protocol::H2c => "h2c".to_owned(),
        Protocol::Tcp(tcp) => {
            let header = if tcp.proxy_protocol { ",proxy-protocol=v2" } else { "" };
            let alpn = tcp.alpn.as_ref().map(|name| format!(",alpn={name}")).unwrap_or_default();
            format!("tcp{header}{alpn}")
        }
    };
    format!("{}={app},protocol={protocol}", inbound.listen)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_form_is_read_and_written_back() {
        for text in [
            "0.0.0.0:8443=127.0.0.1:8080,protocol=auto",
            "[::1]:8443=[::1]:8080,protocol=http1",
            "127.0.0.1:0=localhost:80,protocol=h2c",
            "127.0.0.1:1=app-1.my_ns.svc.cluster.local:65535,protocol=auto",
            "127.0.0.1:1=unix:/run/app=1.sock,protocol=auto",
            "0.0.0.0:6380=127.0.0.1:6379,protocol=tcp",
            "0.0.0.0:6380=127.0.0.1:6379,protocol=tcp,proxy-protocol=v2",
            "0.0.0.0:5433=unix:/run/postgresql/.s.PGSQL.5432,protocol=tcp,alpn=postgresql",
            "0.0.0.0:5433=db:5432,protocol=tcp,proxy-protocol=v2,alpn=postgresql",
            "0.0.0.0:15006=redirect:8080,protocol=auto",
            "0.0.0.0:15006=redirect:8080+9090,protocol=tcp",
        ] {
            assert_eq!(written(&parse(text).unwrap()), text);
        }
        assert_eq!(parse("0.0.0.0:8443=127.0.0.1:8080").unwrap().protocol, Protocol::Auto);
        let named = parse("0.0.0.0:8443=app:8080").unwrap().app;
        assert_eq!(named, AppAddress::Name("app".to_owned(), 8080));
    }

    #[test]
    fn every_misspelling_is_refused_with_the_remedy() {
        for (bad, remedy) in [
            ("", "LISTEN=APP"),
            ("0.0.0.0:8443", "LISTEN=APP"),
            ("8443=127.0.0.1:8080", "IP:PORT"),
            (":8443=127.0.0.1:8080", "IP:PORT"),
            ("localhost:8443=127.0.0.1:8080", "IP:PORT"),
            ("::1:8443=127.0.0.1:8080", "[::1]:8443"),
            ("0.0.0.0:99999=127.0.0.1:8080", "IP:PORT"),
            ("0.0.0.0:8443=", "host:port"),
            ("0.0.0.0:8443=8080", "host:port"),
            ("0.0.0.0:8443=:8080", "host:port"),
            ("0.0.0.0:8443=app:", "host:port"),
            ("0.0.0.0:8443=app:0", "host:port"),
            ("0.0.0.0:8443=127.0.0.1:0", "host:port"),
            ("0.0.0.0:8443=app:+80", "host:port"),
            ("0.0.0.0:8443=127.1:80", "host:port"),
            ("0.0.0.0:8443=0x7f.0x1:80", "host:port"),
            ("0.0.0.0:8443=::1:8080", "[::1]:8080"),
            ("0.0.0.0:8443=http://app:80", "host:port"),
            ("0.0.0.0:8443=a b:80", "host:port"),
            ("0.0.0.0:8443=unix:", "absolute path"),
            ("0.0.0.0:8443=unix:run/app", "absolute path"),
            ("0.0.0.0:15006=redirect:", "redirect:8080+9090"),
            ("0.0.0.0:15006=redirect:0", "redirect:8080+9090"),
            ("0.0.0.0:15006=redirect:80+80", "redirect:8080+9090"),
            ("0.0.0.0:15006=redirect:80,90", "protocol=auto|http1|h2c|tcp"),
            ("0.0.0.0:15006=redirect:80+15006", "one of its own"),
            ("0.0.0.0:8443=app:80,", "protocol=auto|http1|h2c|tcp"),
            ("0.0.0.0:8443=app:80,proto=h2c", "protocol=auto|http1|h2c|tcp"),
            ("0.0.0.0:8443=app:80,protocol=h3", "auto, http1, h2c or tcp"),
            ("0.0.0.0:8443=app:80,protocol=tcp,proxy-protocol=v1", "proxy-protocol=v2"),
            ("0.0.0.0:8443=app:80,protocol=tcp,proxy-protocol", "proxy-protocol=v2"),
            ("0.0.0.0:8443=app:80,protocol=tcp,proxy-protocol=v2,proxy-protocol=v2", "once"),
            ("0.0.0.0:8443=app:80,proxy-protocol=v2", "protocol=tcp"),
            ("0.0.0.0:8443=app:80,proxy-protocol=v2,protocol=h2c", "protocol=tcp"),
            ("0.0.0.0:8443=app:80,protocol=auto,alpn=redis", "protocol=tcp"),
            ("0.0.0.0:8443=app:80,protocol=tcp,alpn=", "alpn=postgresql"),
            ("0.0.0.0:8443=app:80,protocol=tcp,alpn=a b", "alpn=postgresql"),
            ("0.0.0.0:8443=app:80,protocol=tcp,alpn=a,alpn=b", "once"),
            ("0.0.0.0:8443=app:80,protocol=h2c,protocol=h2c", "once"),
            ("127.0.0.1:80=127.0.0.1:80", "one of its own"),
            ("0.0.0.0:80=127.0.0.1:80", "one of its own"),
            ("[::]:80=[::1]:80", "one of its own"),
            ("127.0.0.1:80=localhost:80", "one of its own"),
            ("[::]:80=LOCALHOST:80", "one of its own"),
        ] {
            let error = parse(bad).map(|_| ()).unwrap_err();
            assert!(error.contains(remedy), "{bad}: {error}");
        }
        for good in
            ["0.0.0.0:80=127.0.0.1:81", "0.0.0.0:80=[::1]:80", "10.0.0.1:80=127.0.0.1:80", "10.0.0.1:80=localhost:80"]
        {
            assert!(parse(good).is_ok(), "{good}");
        }
        assert!(parse(&format!("0.0.0.0:1=unix:/{}", "a".repeat(107))).is_err());
    }
}
