//! The command line of everything that talks to a running sidecar, as text.
//!
//! Part of `crate::args` and `revocations/args.rs`; the file of each command reads its values. It must never print, and
//! never open a file.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::revocations::args::Whom;

/// Which sidecar, and how to get to it.
#[derive(Args, Default)]
pub(crate) struct RemoteFlags {
    /// The sidecar's control listener: a Unix socket, or mTLS at an address
    #[arg(long, env = "PORTCULLIS_CONTROL", value_name = "unix:/PATH|HOST:PORT", hide_env_values = true)]
    #[arg(help_heading = "The sidecar")]
    pub(crate) control: Option<String>,
    /// Anchors that vouch for the sidecar at HOST:PORT, PEM
    #[arg(long, value_name = "PEM", help_heading = "The sidecar")]
    pub(crate) control_server_ca: Option<PathBuf>,
    /// Your certificate for HOST:PORT, PEM, leaf first
    #[arg(long, value_name = "PEM", help_heading = "The sidecar")]
    pub(crate) control_cert: Option<PathBuf>,
    /// The private key of --control-cert, PEM
    #[arg(long, value_name = "PEM", help_heading = "The sidecar")]
    pub(crate) control_key: Option<PathBuf>,
    /// The name that the sidecar's certificate must have: a DNS name, an IP address or a SPIFFE ID [default: HOST]
    #[arg(long, value_name = "NAME", help_heading = "The sidecar")]
    pub(crate) control_name: Option<String>,
    /// Print the sidecar's answer as JSON, one object a line
    #[arg(long, help_heading = "The sidecar")]
    pub(crate) json: bool,
}

/// Uses of `portcullis revocations` that talk to a sidecar.
#[derive(Subcommand)]
pub(crate) enum RemoteCommand {
    /// Show who would be cut by a list or CRL, now, on this sidecar; nothing changes
    Preview(PreviewWish),
    /// Put a list or CRL in force on this sidecar
    Push(PushWish),
    /// Put in force what this sidecar holds because it would cut too many sessions
    Confirm(ConfirmWish),
    /// Let this sidecar accept any next sequence of a list, such as after a restore from a backup
    Reset(ResetWish),
}

/// What `preview` shall show.
#[derive(Args)]
#[command(after_help = "\
Examples:
  portcullis revocations preview prod.jsonl --control unix:/run/portcullis/control.sock
  portcullis revocations preview prod.bin --control 10.0.0.7:9465 --control-server-ca ca.pem \\
      --control-cert me.pem --control-key me.key
Exit codes: 0 shown; 1 pushing it would be refused, or held by --max-cut-fraction; 64 wrong input; 69 the sidecar cannot
be reached; 77 not allowed.")]
pub(crate) struct PreviewWish {
    /// A list, a compiled list or CRLs; - reads standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) remote: RemoteFlags,
}

/// What `push` shall do.
#[derive(Args)]
#[command(after_help = "\
Examples:
  portcullis revocations push prod.jsonl --control unix:/run/portcullis/control.sock
  portcullis revocations push prod.jsonl --if-match 12 --control 10.0.0.7:9465 --control-server-ca ca.pem \\
      --control-cert me.pem --control-key me.key
Exit codes: 0 in force, or was before; 1 refused, or held by --max-cut-fraction; 64 wrong input; 69 the sidecar cannot be
reached; 77 not allowed.")]
pub(crate) struct PushWish {
    /// A list, a compiled list or CRLs; - reads standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Only if this sequence of the list is in force; 0: only if none is
    #[arg(long, value_name = "N")]
    pub(crate) if_match: Option<u64>,
    /// Even if it cuts more sessions than --max-cut-fraction allows
    #[arg(long)]
    pub(crate) confirm: bool,
    #[command(flatten)]
    pub(crate) remote: RemoteFlags,
}

/// What `confirm` shall do.
#[derive(Args)]
#[command(after_help = "\
Example:
  portcullis revocations confirm --control unix:/run/portcullis/control.sock
`portcullis state` shows what is held, with its digest.
Exit codes: 0 in force; 1 refused; 64 wrong input, such as nothing is held; 69 the sidecar cannot be reached; 77 not
allowed.")]
pub(crate) struct ConfirmWish {
    /// The digest of what is held; needed if more than one is
    #[arg(value_name = "DIGEST")]
    pub(crate) digest: Option<String>,
    #[command(flatten)]
    pub(crate) remote: RemoteFlags,
}

/// What `reset` shall do.
#[derive(Args)]
#[command(after_help = "\
Example:
  portcullis revocations reset prod --control unix:/run/portcullis/control.sock
What is in force stays in force until the next valid list of this name comes.
Exit codes: 0 done; 1 refused; 64 wrong input, such as an unknown list; 69 the sidecar cannot be reached; 77 not allowed.")]
pub(crate) struct ResetWish {
    /// The name of the list
    #[arg(value_name = "LIST")]
    pub(crate) list: String,
    #[command(flatten)]
    pub(crate) remote: RemoteFlags,
}

/// What `deny` shall do.
#[derive(Args)]
#[command(after_help = "\
Examples:
  portcullis deny --id 'spiffe://prod/ns/ci/*' --for 1h --reason keyCompromise --control unix:/run/portcullis/control.sock
  portcullis deny --cert leaf.pem --issuer ca.pem --for 30m --note 'incident 7' --control unix:/run/portcullis/control.sock
  portcullis deny --serial 0a1b --issuer ca.pem --for 1h --control unix:/run/portcullis/control.sock
A denial acts at once and ends by itself: publish a list that makes up for it (`revocations add … --absorb ID`) before.
Exit codes: 0 denied; 1 refused; 64 wrong input; 69 the sidecar cannot be reached; 77 not allowed.")]
pub(crate) struct DenyWish {
    #[command(flatten)]
    pub(crate) whom: Whom,
    /// How long, like 30m or 1h
    #[arg(long = "for", value_name = "DUR", required = true, help_heading = "Terms")]
    pub(crate) span: String,
    /// Only certificates whose notBefore is earlier, so that a renewed one lives: now, -1h, or a time of RFC 3339
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = "Terms")]
    pub(crate) issued_before: Option<String>,
    /// keyCompromise, cACompromise, affiliationChanged, superseded, cessationOfOperation, certificateHold,
    /// privilegeWithdrawn, aACompromise or unspecified
    #[arg(long, value_name = "REASON", help_heading = "Terms")]
    pub(crate) reason: Option<String>,
    /// For whoever reads it: a ticket, a job (at most 1024 bytes)
    #[arg(long, value_name = "TEXT", help_heading = "Terms")]
    pub(crate) note: Option<String>,
    #[command(flatten)]
    pub(crate) remote: RemoteFlags,
}

/// What `undeny` shall do.
#[derive(Args)]
#[command(after_help = "\
Example:
  portcullis undeny d-7f3a9c --control unix:/run/portcullis/control.sock
Exit codes: 0 taken back; 64 wrong input, such as an unknown id; 69 the sidecar cannot be reached; 77 not allowed.")]
pub(crate) struct UndenyWish {
    /// As `portcullis denials` shows it
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) remote: RemoteFlags,
}

/// What `denials` and `state` shall show.
#[derive(Args)]
#[command(after_help = "\
Examples:
  portcullis denials --control unix:/run/portcullis/control.sock
  portcullis state --json --control unix:/run/portcullis/control.sock
Exit codes: 0 shown; 64 wrong input; 69 the sidecar cannot be reached; 77 not allowed.")]
pub(crate) struct LookWish {
    #[command(flatten)]
    pub(crate) remote: RemoteFlags,
}
