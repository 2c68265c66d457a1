//! The flags of `run` and `check` about the pod that the proxy stands in: as text, and from text to settings.
//!
//! Part of `args.rs` and `resolve.rs`; the injector writes their twins in the environment. Every refusal is one
//! sentence that names the flag, or its twin, and the remedy.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use control::{AppProbes, Place};
use proxy::{AppAddress, Inbound};

use crate::redirect::{self, CHECK_PORT};
use crate::resolve::Reader;

const LOCALHOST: (IpAddr, IpAddr) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));

/// What is done about an app that can be reached around the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BypassCheck {
    /// Nobody looks.
    Off,
    /// A metric and a line tell.
    Warn,
    /// And the proxy is not ready.
    Enforce,
}

/// The flags, as text.
#[derive(clap::Args, Default)]
pub(crate) struct PodFlags {
    /// The pod's own addresses (repeatable, or with commas between them), as Kubernetes' status.podIPs has them
    #[arg(long, env = "PORTCULLIS_POD_IP", value_name = "ADDR", value_delimiter = '\n', hide_env_values = true)]
    pub(crate) pod_ip: Vec<String>,
    /// The app's own probes, which /app-probe/CONTAINER/KIND at --observe runs on kubelet's behalf: a JSON object of
    /// Kubernetes' probes
    #[arg(long, env = "PORTCULLIS_APP_PROBES", value_name = "JSON", hide_env_values = true)]
    pub(crate) app_probes: Option<String>,
    /// Look whether the app answers at --pod-ip, around the proxy: tell, or be unready as well
    /// [default: warn with --pod-ip, else off]
    #[arg(long, env = "PORTCULLIS_BYPASS_CHECK", value_name = "off|warn|enforce", hide_env_values = true)]
    pub(crate) bypass_check: Option<String>,
    /// The first of the 32 ports from which --bypass-check dials what the kernel redirects, as portcullis redirect knows
    /// them [default: 15100]
    #[arg(long, env = "PORTCULLIS_REDIRECT_CHECK_PORT", value_name = "PORT", hide_env_values = true)]
    pub(crate) redirect_check_port: Option<String>,
}

impl PodFlags {
    /// See `Flags::forget_blank_twins`.
    pub(crate) fn forget_blank_twins(&mut self, from_environment: &HashSet<String>) {
        if from_environment.contains("pod_ip") {
            self.pod_ip.retain(|value| !value.trim().is_empty());
        }
        for (id, value) in [
            ("app_probes", &mut self.app_probes),
            ("bypass_check", &mut self.bypass_check),
            ("redirect_check_port", &mut self.redirect_check_port),
        ] {
            if from_environment.contains(id) && value.as_ref().is_some_and(|value| value.trim().is_empty()) {
                *value = None;
            }
        }
    }
}

impl Reader<'_> {
    /// The pod's addresses; none outside of Kubernetes.
    pub(crate) fn pod_addresses(&self) -> Result<Vec<IpAddr>, String> {
        let one = |text: &str| match text.trim().parse::<IpAddr>() {
            // What apps are bound to so that nobody else reaches them.
            Ok(address) if !address.is_unspecified() && address != LOCALHOST.0 && address != LOCALHOST.1 => Ok(address),
            Ok(_) | Err(_) => Err(format!(
                "{} {text:?} is no address of a pod; write one that others reach it by, like 10.1.2.3",
                self.name("pod_ip")
            )),
        };
        self.0.pod.pod_ip.iter().flat_map(|text| text.split(',')).map(one).collect()
    }

    pub(crate) fn bypass_check(&self, pod_addresses: &[IpAddr]) -> Result<BypassCheck, String> {
        let name = self.name("bypass_check");
        let wish = match (self.0.pod.bypass_check.as_deref(), pod_addresses) {
            (None, []) | (Some("off"), _) => return Ok(BypassCheck::Off),
            (None | Some("warn"), _) => BypassCheck::Warn,
            (Some("enforce"), _) => BypassCheck::Enforce,
            (Some(other), _) => return Err(format!("{name} {other:?} is not known; choose off, warn or enforce")),
        };
        if pod_addresses.is_empty() {
            return Err(format!("{name} needs to know where the app must not answer; give --pod-ip"));
        }
        Ok(wish)
    }

    /// Where the bypass check dials from.
    pub(crate) fn redirect_check_port(&self) -> Result<u16, String> {
        let Some(text) = &self.0.pod.redirect_check_port else { return Ok(CHECK_PORT) };
        redirect::check_port(text).map_err(|why| format!("{}: {why}", self.name("redirect_check_port")))
    }

    /// An inbound of redirected connections leads to the pod's addresses.
    pub(crate) fn lead_to(&self, inbounds: &mut [Inbound], pod_addresses: &[IpAddr]) -> Result<(), String> {
        for inbound in inbounds {
            if let AppAddress::Redirected { pod_addresses: addresses, .. } = &mut inbound.app {
                if pod_addresses.is_empty() {
                    return Err(format!(
                        "{} {}: what is redirected leads to the pod's own address; give --pod-ip",
                        self.name("inbound"),
                        inbound.listen
                    ));
                }
                *addresses = pod_addresses.to_vec();
            }
        }
        Ok(())
    }

    pub(crate) fn app_probes(&self, pod_addresses: &[IpAddr]) -> Result<AppProbes, String> {
        let Some(text) = &self.0.pod.app_probes else { return Ok(AppProbes::default()) };
        AppProbes::parse(text, pod_addresses).map_err(|why| format!("{}: {why}", self.name("app_probes")))
    }
}

/// Where the apps would be reached around the proxy: their ports, at the pod's addresses. Where the proxy itself
/// listens it meets itself, and an app on another host is none of this pod's. What the kernel redirects is dialled from
/// `check_port`.
pub(crate) fn around(inbounds: &[Inbound], pod_addresses: &[IpAddr], check_port: u16) -> Vec<Place> {
    let redirected: Vec<u16> = inbounds.iter().flat_map(|inbound| redirected_ports(&inbound.app)).copied().collect();
    let here = |address: IpAddr| address.is_loopback() || address.is_unspecified() || pod_addresses.contains(&address);
    let port = |inbound: &Inbound| match &inbound.app {
        AppAddress::Socket(app) if here(app.ip()) => Some(app.port()),
        AppAddress::Name(host, port) if host.eq_ignore_ascii_case("localhost") => Some(*port),
        AppAddress::Socket(_) | AppAddress::Name(..) | AppAddress::Unix(_) | AppAddress::Redirected { .. } => None,
    };
    let own = |place: &SocketAddr| {
        inbounds.iter().any(|inbound| {
            let listen = inbound.listen;
            listen.port() == place.port() && (listen.ip().is_unspecified() || listen.ip() == place.ip())
        })
    };
    let ports = inbounds.iter().filter_map(port).chain(redirected.iter().copied());
    let mut places: Vec<_> = ports
        .flat_map(|port| pod_addresses.iter().map(move |address| SocketAddr::new(*address, port)))
        .filter(|app| !own(app))
        .map(|app| Place { app, redirected_from: redirected.contains(&app.port()).then_some(check_port) })
        .collect();
    places.sort_unstable();
    places.dedup();
    places
}

fn redirected_ports(app: &AppAddress) -> &[u16] {
    match app {
        AppAddress::Redirected { ports, .. } => ports,
        AppAddress::Socket(_) | AppAddress::Name(..) | AppAddress::Unix(_) => &[],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::inbound;

    #[test]
    fn the_app_is_looked_for_where_it_must_not_answer_and_nowhere_else() {
        let pod: Vec<IpAddr> = ["10.0.0.7", "fd00::7"].map(|address| address.parse().unwrap()).into();
        let places = |texts: &[&str]| -> Vec<String> {
            let inbounds: Vec<_> = texts.iter().map(|text| inbound::parse(text).unwrap()).collect();
            let from = |place: &Place| place.redirected_from.map(|port| format!(" from {port}")).unwrap_or_default();
            around(&inbounds, &pod, 15100).iter().map(|place| format!("{}{}", place.app, from(place))).collect()
        };
        assert_eq!(places(&["0.0.0.0:15443=127.0.0.1:8080"]), ["10.0.0.7:8080", "[fd00::7]:8080"]);
        assert_eq!(places(&["0.0.0.0:1=10.0.0.7:80", "0.0.0.0:2=localhost:80"]), ["10.0.0.7:80", "[fd00::7]:80"]);
        assert_eq!(places(&["0.0.0.0:1=unix:/run/app", "0.0.0.0:2=10.0.0.8:80", "0.0.0.0:3=db:80"]), [""; 0]);
        let both = ["0.0.0.0:15443=127.0.0.1:8080", "0.0.0.0:15006=redirect:8080"];
        assert_eq!(places(&both), ["10.0.0.7:8080 from 15100", "[fd00::7]:8080 from 15100"]);
        assert_eq!(places(&["10.0.0.7:8080=127.0.0.1:8080"]), ["[fd00::7]:8080"]);
        assert_eq!(
            places(&["0.0.0.0:8080=127.0.0.1:81", "0.0.0.0:82=127.0.0.1:8080"]),
            ["10.0.0.7:81", "[fd00::7]:81"]
        );
    }
}
