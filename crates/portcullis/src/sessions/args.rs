//! The command line of `portcullis sessions`, as text.
//!
//! Part of `crate::args`; the file of each command reads its values. It must never print, and never open a file.

use clap::{Args, Subcommand, ValueEnum};

use crate::remote::args::RemoteFlags;

/// Uses of `portcullis sessions`.
#[derive(Subcommand)]
pub(crate) enum SessionsCommand {
    /// Show who is connected
    List(ListWish),
    /// Show everything about one session
    Show(ShowWish),
    /// Show who is connected, again every second
    Watch(WatchWish),
    /// End sessions at once; whoever shall not come back is denied first
    End(Box<EndWish>),
}

/// Which sessions; every flag narrows.
#[derive(Args, Default)]
pub(crate) struct Which {
    /// Of this client: spiffe://td/path, spiffe://td/path/* for all below it, dns:NAME, subject:NAME
    #[arg(long, value_name = "IDENTITY", help_heading = "Which")]
    pub(crate) identity: Option<String>,
    /// Of the certificate with this serial number, hexadecimal, with or without colons
    #[arg(long, value_name = "HEX", help_heading = "Which")]
    pub(crate) serial: Option<String>,
    /// Of certificates that this key signed, directly or above: a PEM certificate, or the SHA-256 of its
    /// SubjectPublicKeyInfo
    #[arg(long, value_name = "PEM|HEX", help_heading = "Which")]
    pub(crate) issuer: Option<String>,
    /// Of this age and older, like 30m or 12h
    #[arg(long, value_name = "DUR", help_heading = "Which")]
    pub(crate) older_than: Option<String>,
}

/// What stands first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    Left,
    Age,
    Bytes,
    Requests,
    Identity,
}

/// What `list` shall show.
#[derive(Args)]
#[command(after_help = "\
Examples:
  portcullis sessions list --control unix:/run/portcullis/control.sock
  portcullis sessions list --identity 'spiffe://prod/ns/ci/*' --older-than 12h --sort age
  portcullis sessions list --json --control 10.0.0.7:9465 --control-server-ca ca.pem \\
      --control-cert me.pem --control-key me.key | jq '.sessions[].identity'
Exit codes: 0 shown; 1 a part is missing, since a worker did not answer; 64 wrong input; 69 the sidecar cannot be
reached; 77 not allowed.")]
pub(crate) struct ListWish {
    #[command(flatten)]
    pub(crate) which: Which,
    /// What stands first: the least time left, the oldest, the most bytes or requests, or by name
    #[arg(long, value_name = "left|age|bytes|requests|identity", value_enum, default_value = "age")]
    #[arg(hide_possible_values = true)]
    pub(crate) sort: Sort,
    /// No more than so many, whichever they are
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u32>,
    #[command(flatten)]
    pub(crate) remote: RemoteFlags,
}

/// What `show` shall show.
#[derive(Args)]
#[command(after_help = "\
Example:
  portcullis sessions show 4711 --control unix:/run/portcullis/control.sock
The id is `session` in the log.
Exit codes: 0 shown; 64 wrong input, such as a session that is gone; 69 the sidecar cannot be reached; 77 not allowed.")]
pub(crate) struct ShowWish {
    /// As `portcullis sessions list` shows it
    #[arg(value_name = "ID")]
    pub(crate) id: u64,
    #[command(flatten)]
    pub(crate) remote: RemoteFlags,
}

/// How `watch` goes on.
#[derive(Args)]
#[command(after_help = "\
Examples:
  portcullis sessions watch --control unix:/run/portcullis/control.sock
  portcullis sessions watch --identity 'spiffe://prod/ns/ci/*' --sort bytes
  portcullis sessions watch --json --every 10s | jq .count
At a terminal q or Ctrl-C ends it and s sorts by something else. Without one, each look is printed after the other; with
--json as one object a line.
Exit codes: 0 ended; 64 wrong input; 69 the sidecar cannot be reached; 77 not allowed.")]
pub(crate) struct WatchWish {
    #[command(flatten)]
    pub(crate) which: Which,
    /// What stands first: the least time left, the oldest, the most bytes or requests, or by name
    #[arg(long, value_name = "left|age|bytes|requests|identity", value_enum, default_value = "left")]
    #[arg(hide_possible_values = true)]
    pub(crate) sort: Sort,
    /// From one look to the next
    #[arg(long, value_name = "DUR", default_value = "1s")]
    pub(crate) every: String,
    /// End after so many looks [default: go on]
    #[arg(long, value_name = "N")]
    pub(crate) times: Option<u32>,
    #[command(flatten)]
    pub(crate) remote: RemoteFlags,
}

/// What `end` shall do.
#[derive(Args)]
#[command(after_help = "\
Examples:
  portcullis sessions end 4711 --reason 'incident 7' --control unix:/run/portcullis/control.sock
  portcullis sessions end --identity 'spiffe://prod/ns/ci/*' --reason 'incident 7' --dry-run
  portcullis sessions end --older-than 12h --reason 'spread the load' --control unix:/run/portcullis/control.sock
A session is cut in the middle of whatever it does, and its client may come back at once. To keep it out, deny it first:
  portcullis deny --id 'spiffe://prod/ns/ci/*' --for 1h
Exit codes: 0 ended, or would be; 1 nobody was meant, or a worker did not answer; 64 wrong input; 69 the sidecar cannot
be reached; 77 not allowed.")]
pub(crate) struct EndWish {
    /// As `portcullis sessions list` shows it
    #[arg(value_name = "ID")]
    pub(crate) id: Option<u64>,
    #[command(flatten)]
    pub(crate) which: Which,
    /// Every session of this sidecar
    #[arg(long, help_heading = "Which")]
    pub(crate) all: bool,
    /// Why, for whoever reads the log (at most 200 characters)
    #[arg(long, value_name = "TEXT", required = true)]
    pub(crate) reason: String,
    /// Tell who would be ended, and end nobody
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) remote: RemoteFlags,
}
