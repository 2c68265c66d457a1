//! `portcullis redirect`: rules that send a pod's inbound TCP connections to the proxy.
//!
//! Called by `main.rs`, in an init container that may administer the pod's network; the proxy may not. The rules are
//! made here as text and handed to Debian's `nft`. It must never touch a rule of anybody else's.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use control::Bypass;

use crate::{Failure, print};

/// The first of the ports that the proxy's own dials come from, whose arrival shows that the rules work. Below the ports
/// that the kernel gives out by itself.
pub(crate) const CHECK_PORT: u16 = 15100;

/// What to redirect.
#[derive(clap::Args)]
pub(crate) struct RedirectWish {
    /// The port of run's --inbound ADDR:PORT=redirect:…
    #[arg(long, env = "PORTCULLIS_REDIRECT_TO", value_name = "PORT", hide_env_values = true)]
    to: String,
    /// A port that is left alone (repeatable, or with commas between them): that of --observe, those of other inbounds
    #[arg(long, env = "PORTCULLIS_EXCLUDE_PORT", value_name = "PORT", value_delimiter = '\n', hide_env_values = true)]
    exclude_port: Vec<String>,
    /// The first of the 32 ports that run's --bypass-check dials from [default: 15100]
    #[arg(long, env = "PORTCULLIS_REDIRECT_CHECK_PORT", value_name = "PORT", hide_env_values = true)]
    redirect_check_port: Option<String>,
    /// Print the rules and change nothing
    #[arg(long)]
    print: bool,
}

/// Makes the rules, and puts them in force or prints them.
pub(crate) fn redirect(wish: &RedirectWish) -> Result<(), Failure> {
    let rules = Rules::read(wish).map_err(Failure::AtStart)?.text();
    if wish.print {
        print::out(&rules);
        return Ok(());
    }
    enforce(&rules).map_err(Failure::WhileRunning)
}

/// Reads a port.
pub(crate) fn port(text: &str) -> Result<u16, String> {
    match text.trim().parse() {
        Ok(port) if port > 0 => Ok(port),
        Ok(_) | Err(_) => Err(format!("{text:?} is no port; write 1 to 65535")),
    }
}

/// Reads the first of the check's ports.
pub(crate) fn check_port(text: &str) -> Result<u16, String> {
    let first = port(text)?;
    if first.checked_add(Bypass::PORTS - 1).is_none() {
        return Err(format!("from {first} on there are no {} ports; write a lower one", Bypass::PORTS));
    }
    Ok(first)
}

#[derive(Debug, PartialEq, Eq)]
struct Rules {
    to: u16,
    excluded: BTreeSet<u16>,
    check: u16,
}

impl Rules {
    fn read(wish: &RedirectWish) -> Result<Rules, String> {
        let to = port(&wish.to).map_err(|why| format!("--to: {why}"))?;
        let excluded = wish.exclude_port.iter().flat_map(|text| text.split(',')).filter(|text| !text.trim().is_empty());
        let excluded = excluded.map(port).collect::<Result<BTreeSet<_>, _>>();
        let excluded = excluded.map_err(|why| format!("--exclude-port: {why}"))?;
        let check = wish.redirect_check_port.as_deref().filter(|text| !text.trim().is_empty());
        let check = check.map_or(Ok(CHECK_PORT), check_port).map_err(|why| format!("--redirect-check-port: {why}"))?;
        if excluded.contains(&to) {
            return Err(format!(
                "--exclude-port {to} is the port of --to; leave it out, strangers would be let in as apps' clients"
            ));
        }
        Ok(Rules { to, excluded, check })
    }

    /// A table of our own, replaced as a whole in one transaction. Strangers come by `prerouting`; the proxy's own dial
    /// from the check's port, which the kernel routes over `lo`, comes by `output`. Both jump to the same chain: where
    /// the one arrives the other does.
    fn text(&self) -> String {
        let Rules { to, excluded, check } = self;
        let last = check + (Bypass::PORTS - 1);
        let excluded = match excluded.is_empty() {
            true => String::new(),
            false => {
                let ports: Vec<_> = excluded.iter().map(u16::to_string).collect();
                format!("\t\ttcp dport {{ {} }} return\n", ports.join(", "))
            }
        };
        format!(
            "add table inet portcullis\n\
             delete table inet portcullis\n\
             table inet portcullis {{\n\
             \tchain to_proxy {{\n\
             {excluded}\
             \t\tmeta l4proto tcp redirect to :{to}\n\
             \t}}\n\
             \tchain prerouting {{\n\
             \t\ttype nat hook prerouting priority -100; policy accept;\n\
             \t\tiifname != \"lo\" meta l4proto tcp counter jump to_proxy\n\
             \t}}\n\
             \tchain output {{\n\
             \t\ttype nat hook output priority -100; policy accept;\n\
             \t\toifname \"lo\" tcp sport {check}-{last} counter jump to_proxy\n\
             \t}}\n\
             }}\n"
        )
    }
}

fn enforce(rules: &str) -> Result<(), String> {
    let failed = |why: &dyn std::fmt::Display| {
        format!(
            "the rules are not in force: {why}; run it as user 0 with NET_ADMIN, where nft is, or look with --print"
        )
    };
    let mut nft = Command::new("nft");
    let started = nft.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut nft = started.map_err(|error| failed(&format!("nft cannot be started ({error})")))?;
    if let Some(mut input) = nft.stdin.take() {
        // One that does not read has something to say.
        let _ = input.write_all(rules.as_bytes());
    }
    let ended = nft.wait_with_output().map_err(|error| failed(&error))?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    Err(failed(&format!("nft says {:?}", said.lines().next().unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(to: &str, exclude: &[&str], check: Option<&str>) -> Result<Rules, String> {
        Rules::read(&RedirectWish {
            to: to.to_owned(),
            exclude_port: exclude.iter().map(|text| (*text).to_owned()).collect(),
            redirect_check_port: check.map(str::to_owned),
            print: true,
        })
    }

    #[test]
    fn the_rules_are_one_table_that_replaces_itself() {
        let text = read("15006", &["15443,15020", "15020"], None).unwrap().text();
        assert!(text.starts_with("add table inet portcullis\ndelete table inet portcullis\ntable inet portcullis {\n"));
        assert!(text.contains("\t\ttcp dport { 15020, 15443 } return\n\t\tmeta l4proto tcp redirect to :15006\n"));
        assert!(text.contains("\t\tiifname != \"lo\" meta l4proto tcp counter jump to_proxy\n"));
        assert!(text.contains("\t\toifname \"lo\" tcp sport 15100-15131 counter jump to_proxy\n"));
        let text = read("1", &["", " "], Some("2")).unwrap().text();
        assert!(!text.contains("return") && text.contains("tcp sport 2-33 counter jump"));
    }

    #[test]
    fn a_port_that_is_none_is_refused_with_the_flags_name() {
        for (bad, name) in [
            (read("0", &[], None), "--to"),
            (read("http", &[], None), "--to"),
            (read("1", &["65536"], None), "--exclude-port"),
            (read("1", &["2, 1"], None), "--exclude-port 1 "),
            (read("1", &[], Some("x")), "--redirect-check-port"),
            (read("1", &[], Some("65505")), "--redirect-check-port"),
        ] {
            let why = bad.unwrap_err();
            assert!(why.starts_with(name), "{why}");
        }
    }
}
