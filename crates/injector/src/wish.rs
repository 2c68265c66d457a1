//! What one pod asks for, read from its annotations and the defaults, checked.
//!
//! Called by `patch.rs`. Values that become flags of the sidecar are judged as `portcullis run` judges them: a slip
//! shows when the pod is created, in one sentence, and not as a container that never starts.

use trust::IdentityPattern;

use crate::certificate::{self, Certificate};
use crate::configuration::{Configuration, is_image};
use crate::keys::{Said, Values};
use crate::resources::Resources;
use crate::sidecar::REDIRECTED;
use crate::verdict::{Reason, Refusal};

/// Inbounds of one sidecar: each is a container port, and no app known to us listens on more.
const MOST_PORTS: usize = 16;
/// A Secret or ConfigMap name is a DNS subdomain.
const LONGEST_NAME: usize = 253;
/// From the sidecar's start to its readiness, if nothing else is said.
const STARTUP: &str = "120";
const MOST_STARTUP: u32 = 3600;
/// Keys that become flags of the sidecar as they are, with the flag's id.
const FLAGS: [(&str, &str); 4] =
    [("max-session-age", "max_session_age"), ("drain", "drain"), ("stale", "stale"), ("log-level", "log_level")];

/// What one pod asks for.
pub(crate) struct Wish {
    pub(crate) app_ports: Vec<u16>,
    pub(crate) protocol: Option<String>,
    /// `None`: anybody whom the anchors vouch for.
    pub(crate) allow: Option<Vec<String>>,
    /// A ConfigMap; `None`: what comes with the certificate.
    pub(crate) client_ca: Option<String>,
    pub(crate) trust_domain: Option<String>,
    pub(crate) certificate: Certificate,
    /// A ConfigMap; `None`: nothing is checked.
    pub(crate) revocations: Option<String>,
    pub(crate) bypass_check: String,
    /// Names in the environment, and values.
    pub(crate) flags: Vec<(String, String)>,
    /// Every inbound port but these goes to the sidecar.
    pub(crate) redirect: Option<Redirect>,
    pub(crate) image: String,
    pub(crate) resources: Resources,
    /// Seconds.
    pub(crate) startup: u32,
}

/// All inbound TCP ports go to the sidecar.
pub(crate) struct Redirect {
    pub(crate) exclude: Vec<u16>,
    pub(crate) image: String,
}

impl Wish {
    /// Reads everything; `None` if no app port is named.
    pub(crate) fn read(values: &Values<'_>, configuration: &Configuration) -> Result<Option<Wish>, Refusal> {
        let Some(app_ports) = app_ports(values)? else { return Ok(None) };
        let missing = |key: &str, example: &str| {
            Reason::MissingSetting.because(format!(
                "the annotation portcullis.dev/{key} is missing, and the injector's defaults set none; write {example}"
            ))
        };
        let allow = match (values.find("allow"), allows_any(values)?) {
            (Some(said), true) => return Err(said.refused("allow-any is set beside it; leave one of them out")),
            (Some(said), false) => Some(identities(said)?),
            (None, true) => None,
            (None, false) => return Err(missing("allow", "who may come in, like uri:spiffe://td/ns/*")),
        };
        let certificate = certificate::read(values)?
            .ok_or_else(|| missing("certificate", "where the sidecar's certificate comes from, like secret:NAME"))?;
        let revocations = revocations(values)?
            .ok_or_else(|| missing("revocations", "configmap:NAME, or none to check no revocations"))?;
        let image = values.find("image").map_or(configuration.image.as_str(), |said| said.text);
        Ok(Some(Wish {
            protocol: protocol(values)?,
            allow,
            client_ca: client_ca(values)?,
            trust_domain: trust_domain(values)?,
            certificate,
            revocations,
            bypass_check: bypass_check(values)?,
            flags: flags(values, configuration)?,
            redirect: redirected(values, &app_ports, configuration)?,
            app_ports,
            image: image.to_owned(),
            resources: Resources::read(values)?,
            startup: startup(values)?,
        }))
    }

    /// Reads each value for itself, as for the defaults, where not all need be there.
    pub(crate) fn check_alone(values: &Values<'_>, configuration: &Configuration) -> Result<(), Refusal> {
        app_ports(values)?;
        protocol(values)?;
        values.find("allow").map(identities).transpose()?;
        if let (Some(said), true) = (values.find("allow"), allows_any(values)?) {
            return Err(said.refused("allow-any is set beside it; leave one of them out"));
        }
        client_ca(values)?;
        trust_domain(values)?;
        certificate::read(values)?;
        revocations(values)?;
        bypass_check(values)?;
        flags(values, configuration)?;
        redirect(values, configuration)?;
        Resources::read(values)?;
        startup(values)?;
        Ok(())
    }
}

fn app_ports(values: &Values<'_>) -> Result<Option<Vec<u16>>, Refusal> {
    values.find("app-port").map(|said| ports(said, true)).transpose()
}

fn ports(said: Said<'_>, needs_one: bool) -> Result<Vec<u16>, Refusal> {
    let mut ports = Vec::new();
    for text in said.text.split(',').map(str::trim).filter(|text| needs_one || !text.is_empty()) {
        let port = match text.parse::<u16>() {
            // Written as it is read: others that look at the text, like a policy, shall see the same port.
            Ok(port @ 1..) if port.to_string() == text => port,
            Ok(_) | Err(_) => {
                return Err(said.refused(format_args!(
                    "{text:?} is no port; write numbers from 1 to 65535, like 8080 or 8080,9090"
                )));
            }
        };
        if ports.contains(&port) {
            return Err(said.refused(format_args!("{port} stands twice; write it once")));
        }
        ports.push(port);
    }
    if ports.len() > MOST_PORTS {
        return Err(said.refused(format_args!("these are more than {MOST_PORTS} ports; name fewer")));
    }
    Ok(ports)
}

fn protocol(values: &Values<'_>) -> Result<Option<String>, Refusal> {
    one_of(values, "protocol", &["auto", "http1", "h2c", "tcp"])
}

fn one_of(values: &Values<'_>, key: &'static str, words: &[&str]) -> Result<Option<String>, Refusal> {
    match values.find(key) {
        None => Ok(None),
        Some(said) if words.contains(&said.text) => Ok(Some(said.text.to_owned())),
        Some(said) => Err(said.refused(format_args!("it is not known; choose {}", words.join(", ")))),
    }
}

fn allows_any(values: &Values<'_>) -> Result<bool, Refusal> {
    Ok(one_of(values, "allow-any", &["true", "false"])?.as_deref() == Some("true"))
}

fn identities(said: Said<'_>) -> Result<Vec<String>, Refusal> {
    // A subject has commas of its own: who names one writes one identity a line.
    let separators: &[char] = if said.text.contains("subject:") { &['\n'] } else { &[',', '\n'] };
    let texts: Vec<&str> = said.text.split(separators).map(str::trim).filter(|text| !text.is_empty()).collect();
    if texts.is_empty() {
        return Err(said.refused("it names nobody; write identities like uri:spiffe://td/ns/*"));
    }
    for text in &texts {
        IdentityPattern::parse(text).map_err(|why| said.refused(format_args!("{text:?}: {why}")))?;
    }
    Ok(texts.into_iter().map(str::to_owned).collect())
}

fn client_ca(values: &Values<'_>) -> Result<Option<String>, Refusal> {
    let Some(said) = values.find("client-ca") else { return Ok(None) };
    object_name(said.text).map_err(|why| said.refused(why))?;
    Ok(Some(said.text.to_owned()))
}

fn trust_domain(values: &Values<'_>) -> Result<Option<String>, Refusal> {
    let Some(said) = values.find("trust-domain") else { return Ok(None) };
    let read = IdentityPattern::parse_spiffe(&format!("spiffe://{}/*", said.text));
    match read {
        Ok(_) if !said.text.contains('/') => Ok(Some(said.text.to_owned())),
        Ok(_) => Err(said.refused("a trust domain has no '/'; write it like prod.example")),
        Err(why) => Err(said.refused(format_args!("it is no trust domain ({why}); write it like prod.example"))),
    }
}

fn revocations(values: &Values<'_>) -> Result<Option<Option<String>>, Refusal> {
    let Some(said) = values.find("revocations") else { return Ok(None) };
    if said.text == "none" {
        return Ok(Some(None));
    }
    let Some(name) = said.text.strip_prefix("configmap:") else {
        return Err(said.refused("it is not known; write configmap:NAME, or none to check no revocations"));
    };
    object_name(name).map_err(|why| said.refused(why))?;
    Ok(Some(Some(name.to_owned())))
}

fn bypass_check(values: &Values<'_>) -> Result<String, Refusal> {
    let chosen = one_of(values, "bypass-check", &["off", "warn", "enforce"])?;
    Ok(chosen.unwrap_or_else(|| "warn".to_owned()))
}

fn flags(values: &Values<'_>, configuration: &Configuration) -> Result<Vec<(String, String)>, Refusal> {
    let mut flags = Vec::new();
    for (key, id) in FLAGS {
        let Some(said) = values.find(key) else { continue };
        (configuration.judge)(id, said.text).map_err(|why| said.refused(why))?;
        flags.push((format!("PORTCULLIS_{}", id.to_ascii_uppercase()), said.text.to_owned()));
    }
    Ok(flags)
}

fn redirect(values: &Values<'_>, configuration: &Configuration) -> Result<Option<Redirect>, Refusal> {
    let exclude = values.find("redirect-exclude-ports");
    let mode = one_of(values, "mode", &["port", "redirect"])?;
    let ports = exclude.map(excluded).transpose()?;
    if mode.as_deref() != Some("redirect") {
        return Ok(None);
    }
    let Some(image) = &configuration.redirect_image else {
        return Err(Reason::MissingSetting.because(
            "the annotation portcullis.dev/mode is redirect, and the injector's defaults name no redirect-image; have \
             one set that holds nft",
        ));
    };
    Ok(Some(Redirect { exclude: ports.unwrap_or_default(), image: image.clone() }))
}

fn excluded(said: Said<'_>) -> Result<Vec<u16>, Refusal> {
    let ports = ports(said, false)?;
    match ports.contains(&REDIRECTED) {
        true => Err(said.refused(format_args!(
            "{REDIRECTED} is where connections are redirected to, and strangers would be let in as apps' clients; \
             leave it out"
        ))),
        false => Ok(ports),
    }
}

/// An app's port that is not redirected would be reached past the sidecar.
fn redirected(
    values: &Values<'_>,
    app_ports: &[u16],
    configuration: &Configuration,
) -> Result<Option<Redirect>, Refusal> {
    let redirect = redirect(values, configuration)?;
    let excluded = redirect.iter().flat_map(|redirect| &redirect.exclude).find(|port| app_ports.contains(port));
    match (excluded, values.find("redirect-exclude-ports")) {
        (Some(port), Some(said)) => {
            Err(said
                .refused(format_args!("{port} is an app port, which would be reached past the sidecar; leave it out")))
        }
        _ => Ok(redirect),
    }
}

fn startup(values: &Values<'_>) -> Result<u32, Refusal> {
    let said = values.find("startup-timeout");
    let text = said.map_or(STARTUP, |said| said.text);
    let seconds = text.strip_suffix('s').unwrap_or(text);
    match (seconds.parse::<u32>(), said) {
        (Ok(seconds @ 1..=MOST_STARTUP), _) => Ok(seconds),
        (_, Some(said)) => Err(said.refused(format_args!("write whole seconds from 1s to {MOST_STARTUP}s, like 120s"))),
        (_, None) => Ok(MOST_STARTUP),
    }
}

/// RFC 1123 §2.1 as Kubernetes reads it for the names of objects.
pub(crate) fn object_name(text: &str) -> Result<(), &'static str> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let ends = label.bytes().next().is_some_and(plain) && label.bytes().next_back().is_some_and(plain);
        ends && label.bytes().all(|byte| plain(byte) || byte == b'-')
    };
    match text.len() <= LONGEST_NAME && text.split('.').all(label) {
        true => Ok(()),
        false => Err("that is no name of an object; write lower case letters, digits, '-' and '.'"),
    }
}

/// The image of an annotation, checked by whoever reads it.
pub(crate) fn checked_image(values: &Values<'_>) -> Result<(), Refusal> {
    match values.find("image") {
        Some(said) => is_image(said.text).map_err(|why| said.refused(why)),
        None => Ok(()),
    }
}
