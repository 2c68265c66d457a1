//! A pod under podman while it runs: images, storage and settings of the test's own, in a folder that goes with it.
//! Made by `whole_pod.rs`. What kubelet would do and podman 4.3 does not, it does itself: see [`as_podman_takes_it`].
//! It must never touch an image, a container or a setting that it did not make.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::hosts::POD;

pub(crate) struct Podman {
    folder: PathBuf,
    entry: String,
}

impl Podman {
    /// With the images that `make test-pod` built, in the network that `entry` enters.
    pub(crate) fn new(folder: &Path, entry: String) -> Podman {
        let settings = format!(
            "[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nlock_type = \"file\"\n\
             tmp_dir = \"{0}/tmp\"\n[containers]\ndefault_ulimits = [\"nofile=20000:20000\", \"nproc=10000:10000\"]\n",
            folder.display()
        );
        fs::write(folder.join("containers.conf"), settings).unwrap();
        fs::write(folder.join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
        let podman = Podman { folder: folder.to_owned(), entry };
        for image in ["portcullis", "portcullis-redirect", "pod-app"] {
            let archive = images().join(format!("{image}.tar"));
            let policy = folder.join("policy.json");
            podman.run(&[
                "load",
                "--quiet",
                "--signature-policy",
                policy.to_str().unwrap(),
                "-i",
                archive.to_str().unwrap(),
            ]);
        }
        podman
    }

    /// Runs it to its end, and panics with what it said if it fails.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "podman {}: {said}", arguments.join(" "));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A command of it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut words = self.entry.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg("podman").env("CONTAINERS_CONF", self.folder.join("containers.conf"));
        for (flag, place) in [("--root", "root"), ("--runroot", "runroot")] {
            command.arg(flag).arg(self.folder.join(place));
        }
        command.args(["--storage-driver", "vfs"]).args(arguments).current_dir(&self.folder);
        command
    }

    /// Starts a pod whose ConfigMaps and Secrets are folders.
    pub(crate) fn play(&self, pod: &Value, folders: &[(&str, PathBuf)]) {
        let file = self.folder.join("pod.json");
        fs::write(&file, as_podman_takes_it(pod.clone(), folders).to_string()).unwrap();
        self.run(&["kube", "play", "--network", "host", file.to_str().unwrap()]);
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.command(&["pod", "rm", "--all", "--force", "--time", "0"]).output();
        // Without this, mounts of the storage would outlive the test.
        let _ = self.command(&["unmount", "--all", "--force"]).output();
    }
}

/// Where `make test-pod` leaves them.
fn images() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("pod")
}

/// Podman 4.3 knows no native sidecars, runs probes by a curl inside of the container, and has no `status.podIP`; ports it
/// would publish, which a network that it did not make does not need. Volumes
/// of ConfigMaps and Secrets it would write once: here they are folders, which the test changes as kubelet does.
fn as_podman_takes_it(mut pod: Value, folders: &[(&str, PathBuf)]) -> Value {
    // By default it removes an init container that ended, and may come too early for that.
    pod["metadata"]["annotations"]["io.podman.annotations.init.container.type"] = json!("always");
    let spec = pod["spec"].as_object_mut().unwrap();
    let before = spec.remove("initContainers").unwrap();
    let stays = |container: &&Value| container["restartPolicy"] == "Always";
    let mut sidecars: Vec<Value> = before.as_array().unwrap().iter().filter(stays).cloned().collect();
    let others: Vec<&Value> = before.as_array().unwrap().iter().filter(|container| !stays(container)).collect();
    spec.insert("initContainers".to_owned(), json!(others));
    sidecars.iter_mut().for_each(|sidecar| drop(sidecar.as_object_mut().unwrap().remove("restartPolicy")));
    let containers = spec["containers"].as_array_mut().unwrap();
    containers.splice(..0, sidecars);
    for container in containers {
        let container = container.as_object_mut().unwrap();
        for lost in ["ports", "startupProbe", "readinessProbe", "livenessProbe"] {
            container.remove(lost);
        }
        for variable in container.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten() {
            if variable["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP" {
                *variable = json!({ "name": variable["name"], "value": POD.to_string() });
            }
        }
    }
    for volume in spec["volumes"].as_array_mut().unwrap() {
        let source = volume["configMap"]["name"].as_str().or(volume["secret"]["secretName"].as_str());
        if let Some((_, folder)) = folders.iter().find(|(name, _)| Some(*name) == source) {
            *volume = json!({ "name": volume["name"], "hostPath": { "path": folder, "type": "Directory" } });
        }
    }
    pod
}
