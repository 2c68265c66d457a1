//! The command line and its twins in the environment, as text.
//!
//! Called by `main.rs` once. Values stay text here: `resolve.rs` reads them, so that every error is one sentence
//! that names the flag. It must never print.

use std::collections::HashSet;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::control_flags::ControlFlags;
use crate::injector_flags::{InjectWish, WebhookWish};
use crate::limit_flags::LimitFlags;
use crate::pod_flags::PodFlags;
use crate::redirect::RedirectWish;
use crate::remote::args::{DenyWish, LookWish, UndenyWish};
use crate::revocation_flags::RevocationFlags;
use crate::revocations::args::RevocationsCommand;
use crate::sessions::args::SessionsCommand;
use crate::stop_flags::StopFlags;

/// What the command line asks for.
pub(crate) enum Asked {
    /// To do this.
    Command(Box<Command>),
    /// To print this text: a help or the version.
    Text(String),
    /// Something that cannot be done, in one sentence.
    Wrong(String),
}

#[derive(Parser)]
#[command(
    name = "portcullis",
    version,
    about = "A per-pod mTLS proxy: a session is trusted now, or it is gone.",
    long_about = "A per-pod mTLS proxy. It checks the client's certificate chain and what is revoked again on every \
                  request, and cuts live streams the moment trust ends.",
    after_help = "Every flag has a twin in the environment: --client-ca is PORTCULLIS_CLIENT_CA. A repeatable one takes \
                  one value a line there; a flag on the command line replaces its twin; an empty twin counts as absent. \
                  Exit codes: 0 as asked, 64 something wrong at start, 1 a failure while running or the answer is no, 69 a sidecar \
                  cannot be reached, 77 it does not allow it.",
    disable_help_subcommand = true,
    max_term_width = 110
)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

/// One use of the program.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the proxy until SIGTERM or SIGINT
    Run(Flags),
    /// Validate everything that run would load, and start nothing
    Check {
        #[command(flatten)]
        flags: Flags,
        /// Print the report as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Make a development PKI in a folder; never use it for anything else
    Certs(CertsWish),
    /// Show with real clients what happens when trust ends mid-stream
    Demo(DemoWish),
    /// Make, change, sign and read revocation lists
    Revocations {
        #[command(subcommand)]
        command: RevocationsCommand,
    },
    /// Send a pod's inbound connections to the proxy: in an init container, by nftables
    Redirect(RedirectWish),
    /// Deny somebody on a running sidecar, at once and for a stated time
    Deny(Box<DenyWish>),
    /// Take a denial back
    Undeny(UndenyWish),
    /// Show the denials of a running sidecar
    Denials(LookWish),
    /// Show what a running sidecar knows about revocations
    State(LookWish),
    /// See who is connected to a running sidecar, and end sessions
    Sessions {
        #[command(subcommand)]
        command: SessionsCommand,
    },
    /// Put the sidecar into Kubernetes objects, or take it out
    Inject(InjectWish),
    /// Answer an API server that asks which pods get the sidecar
    Webhook(WebhookWish),
}

/// The flags of `run` and `check`.
#[derive(clap::Args, Default)]
#[command(next_line_help = true)]
pub(crate) struct Flags {
    /// Where clients come in and which app they reach (repeatable); APP is host:port, unix:/path,
    /// or redirect:PORT+PORT for what portcullis redirect sends here. With auto, gRPC
    /// goes out as h2c and the rest as HTTP/1.1; with tcp, bytes go out as they come, after a PROXY protocol header if
    /// asked for, and the proxy chooses by ALPN the protocol named or none [default protocol: auto]
    #[arg(long, env = "PORTCULLIS_INBOUND")]
    #[arg(value_name = "LISTEN=APP[,protocol=auto|http1|h2c|tcp[,proxy-protocol=v2][,alpn=NAME]]")]
    #[arg(value_delimiter = '\n', hide_env_values = true)]
    pub(crate) inbound: Vec<String>,
    /// The proxy's own certificate chain, PEM, leaf first; with --key
    #[arg(long, env = "PORTCULLIS_CERT", value_name = "FILE", hide_env_values = true)]
    pub(crate) cert: Option<String>,
    /// The private key of --cert, PEM
    #[arg(long, env = "PORTCULLIS_KEY", value_name = "FILE", hide_env_values = true)]
    pub(crate) key: Option<String>,
    /// Key and chain in one PEM file, instead of --cert and --key
    #[arg(long, env = "PORTCULLIS_CREDENTIAL_BUNDLE", value_name = "FILE", hide_env_values = true)]
    pub(crate) credential_bundle: Option<String>,
    /// Anchors that vouch for clients (repeatable): a PEM file or a folder of them; with a trust domain, these anchors
    /// speak for it alone
    #[arg(long, env = "PORTCULLIS_CLIENT_CA", value_name = "[TRUST_DOMAIN=]PATH")]
    #[arg(value_delimiter = '\n', hide_env_values = true)]
    pub(crate) client_ca: Vec<String>,
    /// Who may come in at all (repeatable): uri:spiffe://td/ns/*, dns:name or subject:…
    #[arg(long, env = "PORTCULLIS_ALLOW", value_name = "IDENTITY", value_delimiter = '\n', hide_env_values = true)]
    pub(crate) allow: Vec<String>,
    /// Let in any client that the anchors vouch for; the only way to run without --allow
    #[arg(long, env = "PORTCULLIS_ALLOW_ANY", value_parser = switch, hide_env_values = true)]
    pub(crate) allow_any: bool,
    /// Forward CONNECT to the app, which alone decides where it leads; refused by 405 otherwise
    #[arg(long, env = "PORTCULLIS_ALLOW_CONNECT", value_parser = switch, hide_env_values = true)]
    pub(crate) allow_connect: bool,
    /// What is revoked (repeatable): a file or a folder; JSON lines or RFC 5280 CRLs (PEM or DER), told apart by
    /// content
    #[arg(long, env = "PORTCULLIS_REVOCATIONS", value_name = "PATH", value_delimiter = '\n', hide_env_values = true)]
    pub(crate) revocations: Vec<String>,
    /// Which issued certificates need a current CRL of their issuer once any CRL is configured [default: all]
    #[arg(long, env = "PORTCULLIS_CRL_COVERAGE", value_name = "all|leaf|none", hide_env_values = true)]
    pub(crate) crl_coverage: Option<String>,
    /// Check no revocations; the only way to run without --revocations
    #[arg(long, env = "PORTCULLIS_NO_REVOCATIONS", value_parser = switch, hide_env_values = true)]
    pub(crate) no_revocations: bool,
    #[command(flatten)]
    pub(crate) revocation: RevocationFlags,
    /// Knowledge about revocations older than this denies [default: only its own expiry]
    #[arg(long, env = "PORTCULLIS_SNAPSHOT_MAX_AGE", value_name = "DUR", hide_env_values = true)]
    pub(crate) snapshot_max_age: Option<String>,
    /// A session ends at this age [default: no limit]
    #[arg(long, env = "PORTCULLIS_MAX_SESSION_AGE", value_name = "DUR", hide_env_values = true)]
    pub(crate) max_session_age: Option<String>,
    /// A client's certificate ends at this age, valid or not [default: no limit]
    #[arg(long, env = "PORTCULLIS_MAX_CERTIFICATE_AGE", value_name = "DUR", hide_env_values = true)]
    pub(crate) max_certificate_age: Option<String>,
    /// A session without an open request ends after this; a TCP session, when no byte passed for so long
    /// [default: no limit]
    #[arg(long, env = "PORTCULLIS_IDLE_TIMEOUT", value_name = "DUR", hide_env_values = true)]
    pub(crate) idle_timeout: Option<String>,
    #[command(flatten)]
    pub(crate) stop: StopFlags,
    #[command(flatten)]
    pub(crate) limits: LimitFlags,
    /// Threads that carry sessions [default: the cores that this process may use, cgroup limit included]
    #[arg(long, env = "PORTCULLIS_WORKERS", value_name = "N", hide_env_values = true)]
    pub(crate) workers: Option<String>,
    /// Plaintext address of /metrics, /livez, /readyz and /app-probe; it changes nothing [default: 127.0.0.1:9464]
    #[arg(long, env = "PORTCULLIS_OBSERVE", value_name = "ADDR", hide_env_values = true)]
    pub(crate) observe: Option<String>,
    #[command(flatten)]
    pub(crate) pod: PodFlags,
    #[command(flatten)]
    pub(crate) control: ControlFlags,
    /// How log lines on standard output look [default: text at a terminal, else json]
    #[arg(long, env = "PORTCULLIS_LOG_FORMAT", value_name = "text|json", hide_env_values = true)]
    pub(crate) log_format: Option<String>,
    /// The least important lines that are written [default: info]
    #[arg(long, env = "PORTCULLIS_LOG_LEVEL", value_name = "error|warn|info|debug|trace", hide_env_values = true)]
    pub(crate) log_level: Option<String>,
    /// Ids of the values above that came from the environment.
    #[arg(skip)]
    pub(crate) from_environment: HashSet<String>,
}

/// What `certs` shall make.
#[derive(clap::Args)]
pub(crate) struct CertsWish {
    /// Where; the folder is made if it is missing
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Write into a folder that holds files of others too; files of the same names are replaced
    #[arg(long)]
    pub(crate) force: bool,
    /// Lifetime of carol's certificate, the short-lived one
    #[arg(long, value_name = "DUR", default_value = "1h")]
    pub(crate) carol: String,
}

/// How the demo runs.
#[derive(clap::Args)]
pub(crate) struct DemoWish {
    /// Where the development PKI is made
    #[arg(value_name = "DIR", default_value = "certs-dev")]
    pub(crate) folder: PathBuf,
    /// End after the story, as without a terminal
    #[arg(long, env = "ONCE", value_parser = switch, hide_env_values = true)]
    pub(crate) once: bool,
    /// Show the proxy's log between the lines of the story
    #[arg(long)]
    pub(crate) log: bool,
}

/// A flag's twin in the environment: true or false; empty counts as absent.
fn switch(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

/// Reads this process's arguments and environment.
pub(crate) fn read() -> Asked {
    let read = Line::command().try_get_matches().and_then(|matches| {
        let line = Line::from_arg_matches(&matches)?;
        Ok((line, matches))
    });
    match read {
        Ok((line, matches)) => Asked::Command(Box::new(mark_sources(line.command, &matches))),
        Err(error) => told(&error),
    }
}

fn mark_sources(mut command: Command, matches: &ArgMatches) -> Command {
    if let Some((_, given)) = matches.subcommand()
        && let Command::Run(flags) | Command::Check { flags, .. } = &mut command
    {
        let ids = given.ids().map(|id| id.as_str());
        let from_environment = ids.filter(|id| given.value_source(id) == Some(ValueSource::EnvVariable));
        flags.from_environment = from_environment.map(str::to_owned).collect();
        flags.forget_blank_twins();
    }
    command
}

impl Flags {
    /// A blank value in the environment is a template that was not filled in: absent, and then asked for by name if it
    /// is needed. A blank value on the command line stays, and is refused.
    fn forget_blank_twins(&mut self) {
        let from_environment = std::mem::take(&mut self.from_environment);
        self.revocation.forget_blank_twins(&from_environment);
        self.control.forget_blank_twins(&from_environment);
        self.pod.forget_blank_twins(&from_environment);
        self.stop.forget_blank_twins(&from_environment);
        self.limits.forget_blank_twins(&from_environment);
        for (id, values) in [
            ("inbound", &mut self.inbound),
            ("client_ca", &mut self.client_ca),
            ("allow", &mut self.allow),
            ("revocations", &mut self.revocations),
        ] {
            if from_environment.contains(id) {
                values.retain(|value| !value.trim().is_empty());
            }
        }
        for (id, value) in [
            ("cert", &mut self.cert),
            ("key", &mut self.key),
            ("credential_bundle", &mut self.credential_bundle),
            ("crl_coverage", &mut self.crl_coverage),
            ("snapshot_max_age", &mut self.snapshot_max_age),
            ("max_session_age", &mut self.max_session_age),
            ("max_certificate_age", &mut self.max_certificate_age),
            ("idle_timeout", &mut self.idle_timeout),
            ("workers", &mut self.workers),
            ("observe", &mut self.observe),
            ("log_format", &mut self.log_format),
            ("log_level", &mut self.log_level),
        ] {
            if from_environment.contains(id) && value.as_ref().is_some_and(|value| value.trim().is_empty()) {
                *value = None;
            }
        }
        self.from_environment = from_environment;
    }
}

fn told(error: &clap::Error) -> Asked {
    let kind = error.kind();
    if [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion].contains(&kind) {
        return Asked::Text(error.render().to_string());
    }
    if [ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, ErrorKind::MissingSubcommand].contains(&kind) {
        let sentence =
            "say what to do, like run, check, deny, sessions list or revocations push; --help lists everything";
        return Asked::Wrong(sentence.to_owned());
    }
    Asked::Wrong(one_sentence(&error.render().to_string()))
}

/// clap writes its error, then tips, then the usage, in paragraphs: what comes before the usage makes one sentence.
fn one_sentence(rendered: &str) -> String {
    let lines = rendered.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let told = lines.filter(|line| !line.is_empty() && !line.starts_with("For more information"));
    let sentence = told.collect::<Vec<_>>().join(" ").replace(" tip: ", "; ");
    format!("{}; --help lists every flag", sentence.strip_prefix("error: ").unwrap_or(&sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Line::command().debug_assert();
    }

    #[test]
    fn the_parsers_paragraphs_become_one_sentence() {
        let rendered = "error: unexpected argument '--inbond' found\n\n  tip: a similar argument exists: \
                        '--inbound'\n\nUsage: portcullis run\n\nFor more information, try '--help'.\n";
        let sentence = one_sentence(rendered);
        assert_eq!(
            sentence,
            "unexpected argument '--inbond' found; a similar argument exists: '--inbound'; --help lists every flag"
        );
    }
}
