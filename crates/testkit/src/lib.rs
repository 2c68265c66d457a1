//! The forge: certificates, revocation lists, clients and apps, made for tests and used by nothing else.
//! Tests of every crate call it as a development dependency.
//! It must never import one of our crates: what it produces has to come from an independent reading of the formats,
//! otherwise a mistake on the product path would be repeated here and cancel itself out.

pub mod app;
pub mod authority;
pub mod client;
pub mod crl_der;
pub mod der;
pub mod encoding;
pub mod exchange;
pub mod h2c_app;
pub mod http1_client;
pub mod http2_client;
pub mod journal;
pub mod leaf;
pub mod lists;
pub mod raw_app;
pub mod routes;
pub mod stamp;
mod tap;
pub mod websocket;
pub mod wire;

pub use app::RecordingApp;
pub use authority::{Authority, AuthoritySpec};
pub use client::{ClientStream, TlsClient};
pub use crl_der::{CrlEntry, CrlScope, CrlSpec, RawExtension};
pub use encoding::{atomic_write, hex, pem, sha256};
pub use exchange::{Answer, ClientError, Download, Sending, Upload, upload, whole};
pub use h2c_app::H2cApp;
pub use http1_client::Http1Client;
pub use http2_client::{Http2Client, Http2Exchange};
pub use journal::{BodyState, Journal, Seen};
pub use leaf::{Leaf, LeafSpec};
pub use lists::ListSpec;
pub use raw_app::RawApp;
pub use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};
pub use stamp::{stamp, stamps};
pub use time::{Duration, OffsetDateTime};
pub use wire::{Ending, RawAnswer, alert_of, exchange_bytes, read_to_end};
