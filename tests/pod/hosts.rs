//! Two hosts on one cable: the pod's network and a stranger's, each a namespace. The test's thread is the stranger.
//! Made by every test here; dropping it takes both away.
//! It must never name anything as another test does, nor move a thread that others share.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use testkit::RecordingApp;

use crate::program::Program;
use crate::stage::Flags;
use crate::tools::{Told, command, run};

/// The pod's address.
pub(crate) const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2));
/// The stranger's.
pub(crate) const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));
/// Where the program tells of itself.
pub(crate) const OBSERVE: &str = "10.77.0.2:15020";

pub(crate) struct Hosts {
    pod: String,
    stranger: String,
}

/// Panics with what the command said unless it succeeds.
pub(crate) fn succeed(line: &str) -> String {
    let mut words = line.split(' ');
    let output =
        Command::new(words.next().unwrap()).args(words).output().unwrap_or_else(|error| panic!("{line}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{line}: {out}{err}");
    out.into_owned()
}

impl Hosts {
    /// Makes both; from now on this thread is the stranger, and so is every socket and process that it makes.
    pub(crate) fn new() -> Hosts {
        let (pod, stranger) = ["pod", "far"].map(|name| format!("pc-{}-{name}", std::process::id())).into();
        let hosts = Hosts { pod, stranger };
        let Hosts { pod, stranger } = &hosts;
        for host in [pod, stranger] {
            succeed(&format!("ip netns add {host}"));
            succeed(&format!("ip -n {host} link set lo up"));
        }
        succeed(&format!("ip link add eth0 netns {pod} type veth peer name eth0 netns {stranger}"));
        for (host, address) in [(pod, POD), (stranger, STRANGER)] {
            succeed(&format!("ip -n {host} address add {address}/24 dev eth0"));
            let last = address.to_string().split_off(8);
            succeed(&format!("ip -n {host} address add fd77::{last}/64 dev eth0 nodad"));
            succeed(&format!("ip -n {host} link set eth0 up"));
        }
        enter(stranger);
        hosts
    }

    /// What enters the pod's network.
    pub(crate) fn entry(&self) -> String {
        format!("nsenter --net=/run/netns/{}", self.pod)
    }

    /// The program in the pod.
    pub(crate) async fn start(&self, flags: &Flags) -> Program {
        Program::start_after(&format!("exec {} \"$0\" \"$@\"", self.entry()), flags).await
    }

    /// An app in the pod.
    pub(crate) async fn app(&self, address: impl Into<IpAddr>, port: u16) -> RecordingApp {
        enter(&self.pod);
        let app = RecordingApp::start_at(SocketAddr::new(address.into(), port)).await;
        enter(&self.stranger);
        app
    }

    /// Runs the program in the pod to its end.
    pub(crate) async fn portcullis(&self, arguments: &str) -> Told {
        let mut nsenter = command("nsenter");
        nsenter.arg(format!("--net=/run/netns/{}", self.pod)).arg(env!("CARGO_BIN_EXE_portcullis"));
        run(nsenter.args(arguments.split(' '))).await
    }
}

fn enter(host: &str) {
    let name = File::open(format!("/run/netns/{host}")).unwrap();
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&name), Some(LinkNameSpaceType::Network)).unwrap();
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in [&self.pod, &self.stranger] {
            // What is left of a namespace goes with its last process, and every process here dies with the test.
            let _ = Command::new("ip").args(["netns", "del", host]).status();
        }
    }
}
