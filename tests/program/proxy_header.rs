//! The PROXY protocol header: read by HAProxy, nginx and Envoy as the app, and compared with the one that HAProxy sends
//! for the same client. It must never take our own reading of the format for a proof.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;
use testkit::raw_app::unused_address;
use testkit::{ClientStream, Leaf, LeafSpec, TlsClient};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Child;

use crate::program::{Program, eventually, in_time};
use crate::stage::Stage;
use crate::tools::command;

/// A server that was told its configuration by a file in a folder of its own.
struct Server {
    _child: Child,
    folder: TempDir,
}

impl Server {
    /// `SOCKET` in the configuration is where it listens, `FOLDER` its folder.
    async fn start(name: &str, arguments: &[&str], configuration: &str) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().to_str().unwrap();
        let text = configuration.replace("SOCKET", &format!("{place}/app.sock")).replace("FOLDER", place);
        // Envoy tells the format by the name.
        let file = folder.path().join("configuration.yaml");
        std::fs::write(&file, text).unwrap();
        let child = command(name).args(arguments).arg(&file).spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let socket = folder.path().join("app.sock");
        eventually(&format!("{name} listens"), async || UnixStream::connect(&socket).await.is_ok()).await;
        Server { _child: child, folder }
    }

    async fn haproxy() -> Server {
        let answer = "%[src]|%[src_port]|%[dst]|%[dst_port]|%[fc_pp_unique_id]|%[fc_rcvd_proxy]\\n";
        let configuration = format!(
            "defaults\n mode http\n timeout client 20s\n timeout server 20s\n timeout connect 20s\n\
             frontend app\n bind SOCKET accept-proxy\n \
             http-request return status 200 content-type text/plain lf-string {answer}\n"
        );
        Server::start("haproxy", &["-f"], &configuration).await
    }

    async fn nginx() -> Server {
        let answer =
            "$proxy_protocol_addr|$proxy_protocol_port|$proxy_protocol_server_addr|$proxy_protocol_server_port";
        let configuration = format!(
            "daemon off; pid FOLDER/pid; error_log FOLDER/log;\nevents {{}}\nhttp {{ access_log off;\n\
             client_body_temp_path FOLDER/1; proxy_temp_path FOLDER/2; fastcgi_temp_path FOLDER/3;\n\
             uwsgi_temp_path FOLDER/4; scgi_temp_path FOLDER/5;\n\
             server {{ listen unix:SOCKET proxy_protocol; location / {{ return 200 \"{answer}\\n\"; }} }} }}\n"
        );
        Server::start("nginx", &["-e", "stderr", "-c"], &configuration).await
    }

    async fn envoy() -> Server {
        let envoy = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("clients/bin/envoy");
        let arguments = "--disable-hot-restart --log-level error --concurrency 1 --file-flush-interval-msec 10 -c";
        let arguments: Vec<&str> = arguments.split(' ').collect();
        Server::start(envoy.to_str().unwrap(), &arguments, ENVOY).await
    }

    fn inbound(&self, listen: &str) -> String {
        let socket = self.folder.path().join("app.sock");
        format!("{listen}=unix:{},protocol=tcp,proxy-protocol=v2", socket.display())
    }
}

/// Notes what its listener filter made of each connection's header.
const ENVOY: &str = r#"
static_resources:
  listeners:
  - address: { pipe: { path: SOCKET } }
    listener_filters:
    - name: envoy.filters.listener.proxy_protocol
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol
        rules:
        - { tlv_type: 0xd0, on_tlv_present: { key: id } }
        - { tlv_type: 0x05, on_tlv_present: { key: number } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.direct_response
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config
    access_log:
    - name: envoy.access_loggers.file
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
        path: FOLDER/told
        log_format:
          text_format_source:
            inline_string: "%DOWNSTREAM_REMOTE_ADDRESS%|%DYNAMIC_METADATA(envoy.filters.listener.proxy_protocol:number)%|%DYNAMIC_METADATA(envoy.filters.listener.proxy_protocol:id)%\n"
"#;

fn client(stage: &Stage, leaf: &Leaf) -> TlsClient {
    TlsClient::new(stage.server_root.der(), Some(leaf))
}

/// What the app says about its client over this session.
async fn told(stream: &mut ClientStream) -> Vec<String> {
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    match in_time("the app's answer", stream.read_to_string(&mut answer)).await {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::UnexpectedEof),
    }
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_else(|| panic!("{answer:?}")).trim_end();
    body.split('|').map(str::to_owned).collect()
}

fn address(address: SocketAddr) -> [String; 2] {
    [address.ip().to_canonical().to_string(), address.port().to_string()]
}

/// The four words about both ends of this connection.
fn ends(stream: &ClientStream) -> Vec<String> {
    let socket = stream.get_ref().0;
    [address(socket.local_addr().unwrap()), address(socket.peer_addr().unwrap())].concat()
}

#[tokio::test]
async fn haproxy_and_nginx_read_the_clients_address_and_haproxy_the_sessions_number() {
    let stage = Stage::new().await;
    let alice = stage.client("alice");
    let (haproxy, nginx) = (Server::haproxy().await, Server::nginx().await);
    // IPv4, IPv6, and IPv4 by a socket for both.
    for (listen, host) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")] {
        let flags = stage.flags().with("--inbound", haproxy.inbound(listen)).and("--inbound", nginx.inbound(listen));
        let program = Program::start(&flags).await;
        let mut numbers = Vec::new();
        for inbound in &program.addresses {
            let address = SocketAddr::new(host.parse().unwrap(), inbound.port());
            let mut stream = client(&stage, &alice).connect(address, &[]).await.unwrap();
            let (ends, said) = (ends(&stream), told(&mut stream).await);
            assert_eq!(said[..4], ends, "{listen}");
            numbers.push(said.get(4).cloned());
        }
        // The number by which our own log names the session.
        let opened = program.log.wait_for("the session", |line| line["event"] == "session_opened").await;
        assert_eq!(numbers, [Some(opened["session"].to_string()), None]);
    }
}

#[tokio::test]
async fn envoy_reads_the_clients_spiffe_id() {
    let stage = Stage::new().await;
    let alice = stage.client("alice");
    let envoy = Server::envoy().await;
    let program = Program::start(&stage.flags().with("--inbound", envoy.inbound("127.0.0.1:0"))).await;
    let mut stream = client(&stage, &alice).connect(program.addresses[0], &[]).await.unwrap();
    let own = stream.get_ref().0.local_addr().unwrap();
    // It closes at once, and notes that.
    assert_eq!(in_time("Envoy's end", stream.read(&mut [0])).await.unwrap(), 0);
    let opened = program.log.wait_for("her session", |line| line["event"] == "session_opened").await;
    let wanted = format!("{own}|{}|spiffe://td/alice", opened["session"]);
    let told = || std::fs::read_to_string(envoy.folder.path().join("told")).unwrap_or_default();
    eventually(&format!("{wanted} is told"), async || told().lines().any(|line| line == wanted)).await;
}

/// The type, length and value of each field.
fn fields(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut fields = Vec::new();
    while let [kind, high, low, rest @ ..] = bytes {
        let (value, further) = rest.split_at(usize::from(*high) << 8 | usize::from(*low));
        fields.push((*kind, value.to_vec()));
        bytes = further;
    }
    assert!(bytes.is_empty());
    fields
}

/// The header that comes first on the next connection: what stands before its addresses, and its fields.
async fn header(listener: &UnixListener) -> (Vec<u8>, Vec<(u8, Vec<u8>)>) {
    let (mut stream, _) = in_time("somebody dials", listener.accept()).await.unwrap();
    let mut first = [0; 16];
    in_time("the header", stream.read_exact(&mut first)).await.unwrap();
    let mut rest = vec![0; usize::from(first[14]) << 8 | usize::from(first[15])];
    in_time("the rest of it", stream.read_exact(&mut rest)).await.unwrap();
    (first[..14].to_vec(), fields(&rest[12..]))
}

#[tokio::test]
async fn what_is_said_about_tls_is_byte_for_byte_what_haproxy_says() {
    let stage = Stage::new().await;
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("near.sock")).unwrap();
    let near = folder.path().join("near.sock").display().to_string();
    let server = stage.server();
    stage.write("both.pem", server.chain_pem() + &server.key_pem());
    let (far, own, anchors) = (unused_address().await, stage.text("both.pem"), stage.text("client_root.pem"));
    let configuration = format!(
        "defaults\n mode tcp\n timeout client 20s\n timeout server 20s\n timeout connect 20s\n\
         listen ready\n mode http\n bind SOCKET\n\
         listen tls\n bind {far} ssl crt {own} ca-file {anchors} verify required\n \
         server app unix@{near} send-proxy-v2-ssl-cn proxy-v2-options ssl-cipher\n",
    );
    let _haproxy = Server::start("haproxy", &["-f"], &configuration).await;
    let inbound = format!("127.0.0.1:0=unix:{near},protocol=tcp,proxy-protocol=v2");
    let program = Program::start(&stage.flags().with("--inbound", inbound)).await;
    let leaf = stage.issuing.issue(LeafSpec::spiffe("spiffe://td/ann").common_name("Änn of Ops"));
    let root = stage.server_root.der();
    for client in [TlsClient::tls13(root, Some(&leaf)), TlsClient::tls12(root, Some(&leaf))] {
        let _theirs = client.connect(far, &[]).await.unwrap();
        let (their_start, theirs) = header(&listener).await;
        let _ours = client.connect(program.addresses[0], &[]).await.unwrap();
        let (our_start, ours) = header(&listener).await;
        let ssl = |fields: &[(u8, Vec<u8>)]| fields.iter().find(|field| field.0 == 0x20).unwrap().1.clone();
        assert_eq!(String::from_utf8_lossy(&ssl(&ours)), String::from_utf8_lossy(&ssl(&theirs)));
        assert_eq!(ssl(&ours), ssl(&theirs));
        assert!(ssl(&ours).windows(11).any(|text| text == "Änn of Ops".as_bytes()));
        assert_eq!(our_start, their_start);
        let kinds: Vec<u8> = ours.iter().map(|field| field.0).collect();
        assert_eq!(kinds, [0x05, 0x20, 0xd0]);
        assert_eq!(ours[2].1, b"spiffe://td/ann");
    }
}
