//! The command line of `portcullis revocations`, as text.
//!
//! Part of `crate::args`; the file of each command reads its values, so that every error is one sentence that names
//! the flag. It must never print, and never open a file.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::remote::args::RemoteCommand;

/// One use of `portcullis revocations`.
#[derive(Subcommand)]
pub(crate) enum RevocationsCommand {
    /// Make an Ed25519 key pair for signing lists
    Keygen(KeygenWish),
    /// Revoke: add entries to a list, or begin one
    Add(AddWish),
    /// Take back: remove entries from a list
    Remove(RemoveWish),
    /// Issue a list again, unchanged but for its sequence and dates, before it expires
    Renew(RenewWish),
    /// Add the entries of RFC 5280 CRLs to a list
    Import(ImportWish),
    /// Sign a list; each holder of a key in turn
    Sign(SignWish),
    /// Make the compact binary form of a list
    Compile(CompileWish),
    /// Show what a list, a compiled list or a CRL says
    Inspect(InspectWish),
    /// Check the signatures, the digest, the scope and the expiry of a list, or a CRL against its issuer
    Verify(VerifyWish),
    /// Show what changes from one list to another
    Diff(DiffWish),
    #[command(flatten)]
    Remotely(RemoteCommand),
}

/// What `keygen` shall make.
#[derive(Args)]
#[command(after_help = "\
Example:
  portcullis revocations keygen --out revoke.key
makes revoke.key (the secret key, readable by you alone) and revoke.pub (the public key, for --revocation-key of every
sidecar). Both are plain PEM: `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` make the same files.
Exit codes: 0 made; 64 wrong input, such as a file that is there already.")]
pub(crate) struct KeygenWish {
    /// Where the secret key goes, PKCS#8 PEM, mode 0600; a file that is there is never replaced
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Where the public key goes [default: --out with the ending .pub]
    #[arg(long, value_name = "FILE")]
    pub(crate) public: Option<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Whom entries name; flags of one kind may be repeated, each makes one entry.
#[derive(Args, Default)]
pub(crate) struct Whom {
    /// Every certificate of this identity: spiffe://td/path, spiffe://td/path/* for all below it, dns:NAME,
    /// subject:NAME (repeatable)
    #[arg(long, value_name = "IDENTITY", help_heading = "Whom")]
    pub(crate) id: Vec<String>,
    /// This one certificate, PEM, leaf first (repeatable). With its issuer in the same file or by --issuer it is named
    /// by issuer and serial number; a leaf alone by its fingerprint
    #[arg(long, value_name = "PEM", help_heading = "Whom")]
    pub(crate) cert: Vec<PathBuf>,
    /// The certificate of this serial number, hexadecimal, with or without colons (repeatable); needs --issuer
    #[arg(long, value_name = "HEX", help_heading = "Whom")]
    pub(crate) serial: Vec<String>,
    /// The issuer of --serial or --cert; alone: everything that its key signed. A PEM certificate, or the SHA-256 of
    /// its SubjectPublicKeyInfo
    #[arg(long, value_name = "PEM|HEX", help_heading = "Whom")]
    pub(crate) issuer: Vec<String>,
    /// Every certificate with this public key: a PEM certificate or public key, or the SHA-256 of its
    /// SubjectPublicKeyInfo (repeatable)
    #[arg(long, value_name = "PEM|HEX", help_heading = "Whom")]
    pub(crate) spki: Vec<String>,
    /// The certificate of this SHA-256 fingerprint, with or without colons (repeatable)
    #[arg(long, value_name = "HEX", help_heading = "Whom")]
    pub(crate) certificate: Vec<String>,
    /// Every client of this trust domain (repeatable)
    #[arg(long, value_name = "DOMAIN", help_heading = "Whom")]
    pub(crate) trust_domain: Vec<String>,
}

/// On which terms.
#[derive(Args, Default)]
pub(crate) struct OnTerms {
    /// Only certificates whose notBefore is earlier, so that a renewed one lives: now, -1h, or a time of RFC 3339
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = "Terms")]
    pub(crate) issued_before: Option<String>,
    /// From then on the entry has no force: +24h, or a time of RFC 3339
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = "Terms")]
    pub(crate) until: Option<String>,
    /// keyCompromise, cACompromise, affiliationChanged, superseded, cessationOfOperation, certificateHold,
    /// privilegeWithdrawn, aACompromise or unspecified
    #[arg(long, value_name = "REASON", help_heading = "Terms")]
    pub(crate) reason: Option<String>,
    /// For whoever reads the list: a ticket, a job (at most 1024 bytes)
    #[arg(long, value_name = "TEXT", help_heading = "Terms")]
    pub(crate) note: Option<String>,
    /// observe: the entry denies nobody, sidecars count and log whom it would deny [default: enforce]
    #[arg(long, value_name = "enforce|observe", help_heading = "Terms")]
    pub(crate) mode: Option<String>,
}

/// How a changed list is issued.
#[derive(Args, Default)]
pub(crate) struct Issue {
    /// When the list expires: +24h, or a time of RFC 3339 [default: as long after its issue as before]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = "The list")]
    pub(crate) expires: Option<String>,
    /// Sign with this secret key, PEM (repeatable); without it a signed list loses its signatures, and says so
    #[arg(long, value_name = "PEM", help_heading = "The list")]
    pub(crate) key: Vec<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// How a list begins that is not there yet.
#[derive(Args, Default)]
pub(crate) struct Begin {
    /// The name of a new list: letters, digits, '.', '_', '-'; a list that is there must have it
    #[arg(long, value_name = "NAME", help_heading = "The list")]
    pub(crate) list: Option<String>,
    /// Whether a new list acts at all: enforce or observe [default: enforce]
    #[arg(long, value_name = "enforce|observe", help_heading = "The list")]
    pub(crate) list_mode: Option<String>,
    /// The scope of a new list, for sidecars that run with --revocation-scope
    #[arg(long, value_name = "WORD", help_heading = "The list")]
    pub(crate) scope: Option<String>,
}

/// What `add` shall do.
#[derive(Args)]
#[command(after_help = "\
Examples:
  portcullis revocations add prod.jsonl --cert leaf.pem --issuer ca.pem --reason keyCompromise
  portcullis revocations add prod.jsonl --id 'spiffe://prod/ns/ci/*' --issued-before now --until +24h --note 'job 812'
  portcullis revocations add prod.jsonl --list prod --expires +24h --trust-domain partner
The last one begins the list if prod.jsonl is missing; without --trust-domain it would begin empty. Every change raises the sequence, refreshes issued_at, keeps the
lifetime, and keeps the entries sorted. An entry that is there already changes nothing.
Exit codes: 0 done; 64 wrong input.")]
pub(crate) struct AddWish {
    /// The list, JSON lines; - reads standard input and writes standard output,
    /// and the report goes to standard error
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) whom: Whom,
    #[command(flatten)]
    pub(crate) terms: OnTerms,
    /// Replace what the list says about the same ones, instead of adding to it
    #[arg(long, help_heading = "Terms")]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) begin: Begin,
    /// The id of a denial, made by `portcullis deny`, that this list makes up for (repeatable)
    #[arg(long, value_name = "ID", help_heading = "The list")]
    pub(crate) absorb: Vec<String>,
    #[command(flatten)]
    pub(crate) issue: Issue,
}

/// What `remove` shall do.
#[derive(Args)]
#[command(after_help = "\
Examples:
  portcullis revocations remove prod.jsonl --id 'spiffe://prod/ns/ci/*'
  portcullis revocations remove prod.jsonl --note 'job 812'
removes every entry that names them, on whatever terms; --note alone, every entry with exactly that note.
Exit codes: 0 done; 64 wrong input, such as an entry that is not there.")]
pub(crate) struct RemoveWish {
    /// The list, JSON lines; - reads standard input and writes standard output,
    /// and the report goes to standard error
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) whom: Whom,
    /// Only entries with exactly this note
    #[arg(long, value_name = "TEXT", help_heading = "Whom")]
    pub(crate) note: Option<String>,
    #[command(flatten)]
    pub(crate) issue: Issue,
}

/// What `renew` shall do.
#[derive(Args)]
#[command(after_help = "\
Example, from a timer every few hours:
  portcullis revocations renew prod.jsonl --key revoke.key --drop-ended
A list that expires denies everybody: issue it again well before.
Exit codes: 0 done; 64 wrong input.")]
pub(crate) struct RenewWish {
    /// The list, JSON lines; - reads standard input and writes standard output,
    /// and the report goes to standard error
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Leave out entries whose --until has passed
    #[arg(long)]
    pub(crate) drop_ended: bool,
    #[command(flatten)]
    pub(crate) issue: Issue,
}

/// What `import` shall do.
#[derive(Args)]
#[command(after_help = "\
Example:
  portcullis revocations import prod.jsonl ca.crl --issuer ca.pem --list prod --expires +24h
adds one entry for each revoked serial number, with its reason. The CRL's signature is checked against --issuer first.
A sidecar also reads CRLs as they are; importing is for lists that are signed or compiled.
Exit codes: 0 done; 64 wrong input.")]
pub(crate) struct ImportWish {
    /// The list, JSON lines; begun if it is missing; - reads standard input and writes
    /// standard output, and the report goes to standard error
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// RFC 5280 CRLs, PEM or DER; - reads standard input
    #[arg(value_name = "CRL", required = true)]
    pub(crate) crls: Vec<PathBuf>,
    /// The certificates of the CRLs' issuers, PEM (repeatable)
    #[arg(long, value_name = "PEM", required = true)]
    pub(crate) issuer: Vec<PathBuf>,
    /// For whoever reads the list: where the entries came from
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
    #[command(flatten)]
    pub(crate) begin: Begin,
    #[command(flatten)]
    pub(crate) issue: Issue,
}

/// What `sign` shall do.
#[derive(Args)]
#[command(after_help = "\
Example, two of three holders one after another:
  portcullis revocations sign prod.jsonl --key anna.key
  portcullis revocations sign prod.jsonl --key bert.key
Each adds a signature to those that are there; nothing else changes. --confirm says in the signed header that this issue
may cut more sessions than --max-cut-fraction allows; it must come with the first signature, because it changes what is
signed.
Exit codes: 0 done; 64 wrong input.")]
pub(crate) struct SignWish {
    /// The list, JSON lines or compiled; - reads standard input and writes standard output,
    /// and the report goes to standard error
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// A secret key, Ed25519, PKCS#8 PEM (repeatable)
    #[arg(long, value_name = "PEM", required = true)]
    pub(crate) key: Vec<PathBuf>,
    /// This issue may cut more sessions than sidecars allow
    #[arg(long)]
    pub(crate) confirm: bool,
    /// Where the signed list goes [default: FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `compile` shall do.
#[derive(Args)]
#[command(after_help = "\
Example:
  portcullis revocations compile prod.jsonl --out prod.bin --key revoke.key
The binary form holds the same header and entries: 16 bytes for each serial number, public key and certificate without
terms, the rest as lines. A signature does not survive the change of form: sign the compiled file, with --key here or
with `sign`.
Exit codes: 0 done; 64 wrong input.")]
pub(crate) struct CompileWish {
    /// The list, JSON lines; - reads standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Where the binary goes; - writes standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Sign with this secret key, PEM (repeatable)
    #[arg(long, value_name = "PEM")]
    pub(crate) key: Vec<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `inspect` shall show.
#[derive(Args)]
#[command(after_help = "\
Example:
  portcullis revocations inspect prod.jsonl
Reads JSON lines, compiled lists and CRLs, full or delta, told apart by content. It checks no signature: that is
`verify`.
Exit codes: 0 shown; 64 wrong input.")]
pub(crate) struct InspectWish {
    /// A list, a compiled list or CRLs; - reads standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Show every entry, not only the first 20
    #[arg(long)]
    pub(crate) all: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `verify` shall check.
#[derive(Args)]
#[command(after_help = "\
Examples:
  portcullis revocations verify prod.jsonl --revocation-key anna.pub --revocation-key bert.pub --revocation-threshold 2
  portcullis revocations verify ca.crl --issuer ca.pem
asks what a sidecar with these flags would: whole, signed by enough keys, of this scope, not expired, not from the
future. What it cannot know is what the sidecar holds already.
Exit codes: 0 it holds; 1 it does not; 64 wrong input.")]
pub(crate) struct VerifyWish {
    /// A list, a compiled list or CRLs; - reads standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// A public key whose signature counts, PEM (repeatable); without one signatures are not asked for
    #[arg(long, env = "PORTCULLIS_REVOCATION_KEY", value_name = "PEM", value_delimiter = '\n', hide_env_values = true)]
    pub(crate) revocation_key: Vec<String>,
    /// How many of the keys must have signed [default: 1]
    #[arg(long, env = "PORTCULLIS_REVOCATION_THRESHOLD", value_name = "N", hide_env_values = true)]
    pub(crate) revocation_threshold: Option<String>,
    /// The scope that the header must name
    #[arg(long, visible_alias = "revocation-scope", env = "PORTCULLIS_REVOCATION_SCOPE", value_name = "WORD")]
    #[arg(hide_env_values = true)]
    pub(crate) scope: Option<String>,
    /// For CRLs: the certificates of their issuers, PEM (repeatable)
    #[arg(long, value_name = "PEM")]
    pub(crate) issuer: Vec<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `diff` shall compare.
#[derive(Args)]
#[command(after_help = "\
Example, what a commit would change:
  git show HEAD:prod.jsonl | portcullis revocations diff - prod.jsonl
Compares meaning, not text: order, spacing and signatures do not count, the form does not either.
Exit codes: 0 the same; 1 they differ; 64 wrong input.")]
pub(crate) struct DiffWish {
    /// The list before; - reads standard input
    #[arg(value_name = "OLD")]
    pub(crate) old: PathBuf,
    /// The list after; - reads standard input
    #[arg(value_name = "NEW")]
    pub(crate) new: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
