//! The app behind the proxy: an answer of three bytes, and streams of stamped blocks without end.
//!
//! Speaks plain HTTP/1.1, which the proxy speaks to it whatever its clients do. `/` is answered at once; `/events`
//! (server-sent events) and `/socket` (WebSocket) send a block every `?every=` milliseconds. It must never buffer: a
//! block goes out at the moment that is stamped on it.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::{stamp, told};

/// A head longer than this is none that the proxy writes.
const MOST_HEAD: usize = 16 * 1024;
/// RFC 6455 §1.3.
const WEBSOCKET: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Tells its port, then serves until standard input ends.
pub(crate) async fn serve() -> io::Result<()> {
    // Thousands of streams open at once, while the clients come in.
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let listener = socket.listen(4096)?;
    told::tell(&json!({ "port": listener.local_addr()?.port() }))?;
    let mut asked = told::asked();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                spawn_local(async move {
                    // The proxy closes connections as it likes.
                    let _ = converse(stream).await;
                });
            }
            line = asked.recv() => if line.is_none() { return Ok(()) },
        }
    }
}

async fn converse(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut read = Vec::new();
    while let Some(head) = next_head(&mut stream, &mut read).await? {
        let target = head.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let every = query.strip_prefix("every=").and_then(|text| text.parse().ok()).unwrap_or(1000);
        match path {
            "/events" => return events(stream, every).await,
            "/socket" => return messages(stream, &head, every).await,
            _ => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n").await?,
        }
    }
    Ok(())
}

async fn next_head(stream: &mut TcpStream, read: &mut Vec<u8>) -> io::Result<Option<String>> {
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = read.split_off(end + 4);
            let head = std::mem::replace(read, rest);
            return Ok(Some(String::from_utf8_lossy(&head).into_owned()));
        }
        if read.len() > MOST_HEAD || stream.read_buf(read).await? == 0 {
            return Ok(None);
        }
    }
}

async fn events(mut stream: TcpStream, every: u64) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let chunk = |block: String| format!("{:x}\r\n{block}\r\n", block.len()).into_bytes();
    send_blocks(stream, every, chunk).await
}

async fn messages(mut stream: TcpStream, head: &str, every: u64) -> io::Result<()> {
    let field = |line: &str| line.to_ascii_lowercase().starts_with("sec-websocket-key:");
    let key = head.lines().find(|line| field(line)).and_then(|line| line.split_once(':'));
    let key = key.map(|(_, value)| value.trim().to_owned()).unwrap_or_default();
    let algorithm = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
    let accept = STANDARD.encode(aws_lc_rs::digest::digest(algorithm, (key + WEBSOCKET).as_bytes()));
    let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n";
    stream.write_all(format!("{head}sec-websocket-accept: {accept}\r\n\r\n").as_bytes()).await?;
    // A text message in one frame, unmasked as a server's are (RFC 6455 §5.2); a block is shorter than 126 bytes.
    let frame = |block: String| {
        let mut frame = vec![0x81, u8::try_from(block.len()).unwrap_or(125)];
        frame.extend_from_slice(block.as_bytes());
        frame
    };
    send_blocks(stream, every, frame).await
}

async fn send_blocks(mut stream: TcpStream, every: u64, framed: impl Fn(String) -> Vec<u8>) -> io::Result<()> {
    let mut ticks = ticks(every);
    let mut ignored = [0; 512];
    loop {
        tokio::select! {
            _ = ticks.tick() => stream.write_all(&framed(stamp::block())).await?,
            read = stream.read(&mut ignored) => if read? == 0 { return Ok(()) },
        }
    }
}

/// The phase comes from the clock: thousands of streams must not all speak in one instant.
fn ticks(every: u64) -> Interval {
    let every = Duration::from_millis(every.max(1));
    let phase = every.mul_f64(f64::from(u32::try_from(stamp::now() / 1000 % 1009).unwrap_or(0)) / 1009.0);
    let mut ticks = interval_at(Instant::now() + phase, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}
