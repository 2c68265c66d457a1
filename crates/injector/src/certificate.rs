//! Where the sidecar's certificate and its clients' anchors come from: four forms, each a volume.
//!
//! `wish.rs` reads the annotation, `sidecar.rs` asks for volumes and flags. Keys stay readable for everybody in their
//! volume, because a volume without fsGroup belongs to user 0 and the sidecar is not that user; only the sidecar
//! mounts it.

use serde_json::{Map, Value, json};

use crate::keys::Values;
use crate::verdict::Refusal;
use crate::wish::{Wish, object_name};

/// Where volumes are mounted in the sidecar.
const ROOM: &str = "/var/run/portcullis";
/// 0444: see above.
const MODE: u32 = 0o444;
/// The sidecar's group, for drivers that hand files to one.
const GROUP: &str = "65532";
const DEFAULT_SPIFFE_DRIVER: &str = "spiffe.csi.cert-manager.io";
/// It mounts a Workload API socket and no files.
const SOCKET_DRIVER: &str = "csi.spiffe.io";

/// Where a certificate comes from.
pub(crate) enum Certificate {
    /// A Secret of type kubernetes.io/tls.
    Secret(String),
    /// A certificate that the kubelet asks this signer for.
    Pod(String),
    /// SPIFFE documents as files, from this CSI driver.
    Spiffe(String),
    /// cert-manager's CSI driver with this kind and name of issuer.
    CertManager(String, String),
}

/// Reads the annotation.
pub(crate) fn read(values: &Values<'_>) -> Result<Option<Certificate>, Refusal> {
    let Some(said) = values.find("certificate") else { return Ok(None) };
    let (form, rest) = said.text.split_once(':').unwrap_or((said.text, ""));
    let certificate = match form {
        "secret" => object_name(rest).map(|()| Certificate::Secret(rest.to_owned())),
        "pod-certificate" => signer(rest).map(|()| Certificate::Pod(rest.to_owned())),
        "csi-spiffe" if rest == SOCKET_DRIVER => {
            Err("that driver mounts a Workload API socket, which the sidecar does not read; use a driver that writes \
             tls.crt, tls.key and ca.crt, like spiffe.csi.cert-manager.io")
        }
        "csi-spiffe" if rest.is_empty() => Ok(Certificate::Spiffe(DEFAULT_SPIFFE_DRIVER.to_owned())),
        "csi-spiffe" => object_name(rest).map(|()| Certificate::Spiffe(rest.to_owned())),
        "cert-manager-csi" => {
            let (kind, name) = rest.split_once('/').unwrap_or(("Issuer", rest));
            let known = ["Issuer", "ClusterIssuer"].contains(&kind);
            match known {
                true => object_name(name).map(|()| Certificate::CertManager(kind.to_owned(), name.to_owned())),
                false => Err("the issuer's kind is not known; write Issuer/NAME or ClusterIssuer/NAME"),
            }
        }
        _ => Err("it is not known; write secret:NAME, pod-certificate:SIGNER, csi-spiffe[:DRIVER] or \
             cert-manager-csi:[ClusterIssuer/]NAME"),
    };
    certificate.map(Some).map_err(|why| said.refused(why))
}

/// Kubernetes: a DNS name, a slash and a path.
fn signer(text: &str) -> Result<(), &'static str> {
    let whole = text.split_once('/').is_some_and(|(domain, path)| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        domain.contains('.') && object_name(domain).is_ok() && !path.is_empty() && path.bytes().all(plain)
    });
    match whole && text.len() <= 571 {
        true => Ok(()),
        false => Err("that is no signer; write a domain and a name, like example.com/workloads"),
    }
}

/// What certificate and anchors need in the pod.
pub(crate) struct Material {
    /// Volumes of the pod, each mounted in the sidecar under its name without the prefix.
    pub(crate) volumes: Vec<Value>,
    /// Flags' names in the environment, and their values.
    pub(crate) environment: Vec<(&'static str, String)>,
}

/// For this wish; `identity` completes a SPIFFE ID where the driver wants one spelt out.
pub(crate) fn material(wish: &Wish) -> Material {
    let own = |file: &str| format!("{ROOM}/certificate/{file}");
    let files = vec![("PORTCULLIS_CERT", own("tls.crt")), ("PORTCULLIS_KEY", own("tls.key"))];
    let (mut environment, source) = match &wish.certificate {
        Certificate::Secret(name) => (files, secret(name, &["tls.crt", "tls.key"])),
        Certificate::Pod(signer) => {
            let bundle = json!({
                "signerName": signer, "keyType": "ECDSAP256", "credentialBundlePath": "credential-bundle.pem",
            });
            let bundle = json!([{"podCertificate": bundle}]);
            (vec![("PORTCULLIS_CREDENTIAL_BUNDLE", own("credential-bundle.pem"))], projected(bundle))
        }
        Certificate::Spiffe(driver) => {
            let mut attributes = Map::new();
            if driver == DEFAULT_SPIFFE_DRIVER {
                attributes.insert(format!("{driver}/fs-group"), json!(GROUP));
            }
            (files, csi(driver, attributes))
        }
        Certificate::CertManager(kind, name) => (files, csi("csi.cert-manager.io", issued_by((kind, name), wish))),
    };
    let mut volumes = vec![volume("portcullis-certificate", source)];
    let mut anchors = format!("{ROOM}/client-ca/ca.crt");
    match (&wish.client_ca, &wish.certificate) {
        (Some(name), _) => {
            let items = json!([{"key": "ca.crt", "path": "ca.crt"}]);
            let source = ("configMap", json!({"name": name, "items": items, "defaultMode": MODE}));
            volumes.push(volume("portcullis-client-ca", source));
        }
        (None, Certificate::Secret(name)) => volumes.push(volume("portcullis-client-ca", secret(name, &["ca.crt"]))),
        (None, Certificate::Pod(signer)) => {
            // An empty selector takes every bundle of the signer; a missing one takes none.
            let bundles = json!({"signerName": signer, "labelSelector": {}, "path": "ca.crt"});
            volumes.push(volume("portcullis-client-ca", projected(json!([{"clusterTrustBundle": bundles}]))));
        }
        (None, Certificate::Spiffe(_) | Certificate::CertManager(..)) => anchors = own("ca.crt"),
    }
    let anchors = wish.trust_domain.as_ref().map_or(anchors.clone(), |domain| format!("{domain}={anchors}"));
    environment.push(("PORTCULLIS_CLIENT_CA", anchors));
    if let Some(name) = &wish.revocations {
        volumes.push(volume("portcullis-revocations", ("configMap", json!({"name": name, "defaultMode": MODE}))));
        environment.push(("PORTCULLIS_REVOCATIONS", format!("{ROOM}/revocations")));
    } else {
        environment.push(("PORTCULLIS_NO_REVOCATIONS", "true".to_owned()));
    }
    volumes.push(volume("portcullis-state", ("emptyDir", json!({}))));
    environment.push(("PORTCULLIS_STATE_DIR", format!("{ROOM}/state")));
    Material { volumes, environment }
}

/// Where the volume of this name is mounted, and whether for reading alone.
pub(crate) fn mount(volume: &str) -> Value {
    let folder = volume.strip_prefix("portcullis-").unwrap_or(volume);
    let mut mount = json!({"name": volume, "mountPath": format!("{ROOM}/{folder}")});
    if volume != "portcullis-state"
        && let Some(mount) = mount.as_object_mut()
    {
        mount.insert("readOnly".to_owned(), json!(true));
    }
    mount
}

fn volume(name: &str, (kind, source): (&str, Value)) -> Value {
    json!({"name": name, kind: source})
}

fn secret(name: &str, files: &[&str]) -> (&'static str, Value) {
    let items: Vec<Value> = files.iter().map(|file| json!({"key": file, "path": file})).collect();
    ("secret", json!({"secretName": name, "items": items, "defaultMode": MODE}))
}

fn projected(sources: Value) -> (&'static str, Value) {
    ("projected", json!({"sources": sources, "defaultMode": MODE}))
}

fn csi(driver: &str, attributes: Map<String, Value>) -> (&'static str, Value) {
    let mut source = Map::new();
    source.insert("driver".to_owned(), json!(driver));
    source.insert("readOnly".to_owned(), json!(true));
    if !attributes.is_empty() {
        source.insert("volumeAttributes".to_owned(), Value::Object(attributes));
    }
    ("csi", Value::Object(source))
}

/// The driver itself puts the pod's names in. Clients by SPIFFE ask for the URI, others for the name.
fn issued_by((kind, name): (&str, &str), wish: &Wish) -> Map<String, Value> {
    let mut attributes = Map::new();
    let mut set = |key: &str, value: String| attributes.insert(format!("csi.cert-manager.io/{key}"), json!(value));
    set("issuer-kind", kind.to_owned());
    set("issuer-name", name.to_owned());
    set("dns-names", "${SERVICE_ACCOUNT_NAME}.${POD_NAMESPACE}".to_owned());
    set("key-usages", "digital signature,key encipherment,server auth,client auth".to_owned());
    set("key-encoding", "PKCS8".to_owned());
    set("fs-group", GROUP.to_owned());
    if let Some(domain) = &wish.trust_domain {
        set("uri-sans", format!("spiffe://{domain}/ns/${{POD_NAMESPACE}}/sa/${{SERVICE_ACCOUNT_NAME}}"));
    }
    attributes
}
