//! The flags of `run` and `check` about the pod that the proxy stands in: as text, and from text to settings.
//!
//! Part of `args.rs` and `resolve.rs`; the injector writes their twins in the environment. Every refusal is one
//! sentence that names the flag, or its twin, and the remedy.

use std::collections::HashSet;
use std::net::IpAddr;

use control::AppProbes;

use crate::resolve::Reader;

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
}

impl PodFlags {
    /// See `Flags::forget_blank_twins`.
    pub(crate) fn forget_blank_twins(&mut self, from_environment: &HashSet<String>) {
        if from_environment.contains("pod_ip") {
            self.pod_ip.retain(|value| !value.trim().is_empty());
        }
        if from_environment.contains("app_probes")
            && self.app_probes.as_ref().is_some_and(|text| text.trim().is_empty())
        {
            self.app_probes = None;
        }
    }
}

impl Reader<'_> {
    /// The pod's addresses; none outside of Kubernetes.
    pub(crate) fn pod_addresses(&self) -> Result<Vec<IpAddr>, String> {
        let one = |text: &str| match text.trim().parse::<IpAddr>() {
            Ok(address) if !address.is_unspecified() && !address.is_loopback() => Ok(address),
            Ok(_) | Err(_) => Err(format!(
                "{} {text:?} is no address of a pod; write one that others reach it by, like 10.1.2.3",
                self.name("pod_ip")
            )),
        };
        self.0.pod.pod_ip.iter().flat_map(|text| text.split(',')).map(one).collect()
    }

    pub(crate) fn app_probes(&self, pod_addresses: &[IpAddr]) -> Result<AppProbes, String> {
        let Some(text) = &self.0.pod.app_probes else { return Ok(AppProbes::default()) };
        AppProbes::parse(text, pod_addresses).map_err(|why| format!("{}: {why}", self.name("app_probes")))
    }
}
