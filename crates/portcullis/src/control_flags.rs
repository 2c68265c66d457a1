//! The flags of `run` and `check` about the control listener: as text, from text to settings, and the file they name.
//!
//! Part of `args.rs` and `resolve.rs`. Every refusal is one sentence that names the flag, or its twin in the
//! environment, and the remedy. It must never open the listener to anybody whom no flag names.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use control::{ControlAddress, Door, Grant};
use proxy::Live;
use sources::ControlAnchors;
use trust::Time;

use crate::Failure;
use crate::resolve::Reader;

/// The flags, as text.
#[derive(clap::Args, Default)]
pub(crate) struct ControlFlags {
    /// Where operators push lists, deny and look: a Unix socket for this user alone, or mTLS [default: nowhere]
    #[arg(long, env = "PORTCULLIS_CONTROL", value_name = "unix:/PATH|ADDR", hide_env_values = true)]
    pub(crate) control: Option<String>,
    /// Anchors that vouch for operators at a --control ADDR: a PEM file or a folder of them
    #[arg(long, env = "PORTCULLIS_CONTROL_CA", value_name = "PATH", hide_env_values = true)]
    pub(crate) control_ca: Option<String>,
    /// Which operators may do what at a --control ADDR (repeatable; roles add up; nobody by default), like
    /// uri:spiffe://td/ops/*=read
    #[arg(long, env = "PORTCULLIS_CONTROL_ALLOW", value_name = "IDENTITY=read|deny|push|end")]
    #[arg(value_delimiter = '\n', hide_env_values = true)]
    pub(crate) control_allow: Vec<String>,
}

impl ControlFlags {
    /// See `Flags::forget_blank_twins`.
    pub(crate) fn forget_blank_twins(&mut self, from_environment: &HashSet<String>) {
        if from_environment.contains("control_allow") {
            self.control_allow.retain(|value| !value.trim().is_empty());
        }
        for (id, value) in [("control", &mut self.control), ("control_ca", &mut self.control_ca)] {
            if from_environment.contains(id) && value.as_ref().is_some_and(|value| value.trim().is_empty()) {
                *value = None;
            }
        }
    }
}

/// Where operators come in, and who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ControlSettings {
    /// Where.
    pub(crate) address: ControlAddress,
    /// Anchors and grants, for mTLS.
    pub(crate) guests: Option<(PathBuf, Vec<Grant>)>,
}

impl ControlSettings {
    /// Reads `--control-ca`, if operators come in by mTLS; with sentences about what deserves a look.
    pub(crate) fn anchors(&self, now: Time) -> Result<Option<(ControlAnchors, Vec<String>)>, Failure> {
        let Some((path, _)) = &self.guests else { return Ok(None) };
        let loaded = ControlAnchors::load(path.clone(), now).map_err(|failure| Failure::AtStart(failure.0))?;
        Ok(Some(loaded))
    }

    /// The door for operators with certificates.
    pub(crate) fn door(self, anchors: Option<ControlAnchors>, live: &Arc<Live>) -> Option<Door> {
        let ((_, grants), anchors) = self.guests.zip(anchors)?;
        Some(Door { live: Arc::clone(live), grants, anchors })
    }

    /// What is missing for anybody to come in.
    pub(crate) fn warning(&self) -> Option<String> {
        let nobody = self.guests.as_ref().is_some_and(|(_, grants)| grants.is_empty());
        nobody.then(|| {
            "--control: no --control-allow is given, so nobody comes in there; name operators and their roles"
                .to_owned()
        })
    }

    /// The grants as the flags spell them.
    pub(crate) fn granted(&self) -> Vec<String> {
        let one = |grant: &Grant| format!("{}={}", crate::run::pattern(&grant.pattern), grant.roles).replace(", ", ",");
        self.guests.iter().flat_map(|(_, grants)| grants.iter().map(one)).collect()
    }
}

/// Reads where a control listener is; an error completes "--control … ".
pub(crate) fn address(text: &str) -> Result<ControlAddress, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return match path.starts_with('/') {
            true => Ok(ControlAddress::Unix(PathBuf::from(path))),
            false => Err("needs an absolute path, like unix:/run/portcullis/control.sock".to_owned()),
        };
    }
    let wrong = "is no address; write unix:/PATH, or IP:PORT for mTLS, like 0.0.0.0:9465";
    text.parse::<SocketAddr>().map(ControlAddress::Tls).map_err(|_| wrong.to_owned())
}

impl Reader<'_> {
    pub(crate) fn control(&self) -> Result<Option<ControlSettings>, String> {
        let flags = &self.0.control;
        let guests = [("control_ca", flags.control_ca.is_some()), ("control_allow", !flags.control_allow.is_empty())];
        let given = guests.iter().find_map(|(id, given)| given.then(|| self.name(id)));
        let name = self.name("control");
        let Some(text) = &flags.control else {
            return match given {
                None => Ok(None),
                Some(given) => Err(format!("{given} is given without --control; say where operators come in")),
            };
        };
        let address = address(text).map_err(|why| format!("{name} {text:?} {why}"))?;
        let guests = match (&address, &flags.control_ca, given) {
            (ControlAddress::Unix(_), _, None) => None,
            (ControlAddress::Unix(_), _, Some(given)) => {
                return Err(format!(
                    "{given} is given beside {name} {text}, where whoever may open the socket may do everything; leave \
                     it out"
                ));
            }
            (ControlAddress::Tls(_), Some(anchors), _) => Some((self.path("control_ca", anchors)?, self.grants()?)),
            (ControlAddress::Tls(_), None, _) => {
                return Err(format!(
                    "{name} {text} is given without --control-ca; name the anchors that vouch for operators"
                ));
            }
        };
        Ok(Some(ControlSettings { address, guests }))
    }

    fn grants(&self) -> Result<Vec<Grant>, String> {
        let name = self.name("control_allow");
        let one = |text: &String| Grant::parse(text).map_err(|why| format!("{name} {text:?}: {why}"));
        self.0.control.control_allow.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::args::Flags;

    fn read(control: Option<&str>, ca: Option<&str>, allow: &[&str]) -> Result<Option<ControlSettings>, String> {
        let control = ControlFlags {
            control: control.map(str::to_owned),
            control_ca: ca.map(str::to_owned),
            control_allow: allow.iter().map(|text| (*text).to_owned()).collect(),
        };
        Reader(&Flags { control, ..Flags::default() }).control()
    }

    #[test]
    fn a_unix_socket_needs_nothing_else_and_an_address_needs_anchors() {
        assert_eq!(read(None, None, &[]), Ok(None));
        assert_eq!(read(Some("unix:/run/c"), None, &[]).unwrap().unwrap().guests, None);
        let open = read(Some("127.0.0.1:0"), Some("ca.pem"), &["dns:ops.test=read,push"]).unwrap().unwrap();
        assert_eq!(open.granted(), ["dns:ops.test=read,push"]);
        assert_eq!(open.warning(), None);
        assert!(read(Some("127.0.0.1:0"), Some("ca.pem"), &[]).unwrap().unwrap().warning().is_some());
    }

    #[test]
    fn every_slip_is_one_sentence_that_names_its_flag() {
        for (control, ca, allow, named) in [
            (None, Some("ca.pem"), vec![], "--control-ca"),
            (None, None, vec!["dns:ops.test=read"], "--control-allow"),
            (Some("unix:/run/c"), Some("ca.pem"), vec![], "--control-ca"),
            (Some("unix:/run/c"), None, vec!["dns:ops.test=read"], "--control-allow"),
            (Some("unix:run/c"), None, vec![], "--control"),
            (Some("localhost:1"), Some("ca.pem"), vec![], "--control"),
            (Some("127.0.0.1:1"), None, vec!["dns:ops.test=read"], "--control-ca"),
            (Some("127.0.0.1:1"), Some(""), vec![], "--control-ca"),
            (Some("127.0.0.1:1"), Some("ca.pem"), vec!["dns:ops.test"], "--control-allow"),
        ] {
            let sentence = read(control, ca, &allow).unwrap_err();
            assert!(sentence.contains(named) && !sentence.contains('\n'), "{sentence}");
        }
    }
}
