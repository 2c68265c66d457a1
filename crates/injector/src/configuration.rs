//! What the platform fixed: the sidecar's image, the defaults, and what pods may not change.
//!
//! Made once at start by `portcullis webhook` and `portcullis inject`. It must never be changed by a pod.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::keys::{self, Values};
use crate::wish::Wish;

/// Judges a value of one of the sidecar's flags as `portcullis run` would; an error says what is wrong with it.
pub type FlagJudge = fn(flag: &str, value: &str) -> Result<(), String>;

/// What the platform fixed.
#[derive(Clone, Debug)]
pub struct Configuration {
    pub(crate) image: String,
    pub(crate) defaults: BTreeMap<String, String>,
    pub(crate) locked: BTreeSet<String>,
    pub(crate) allows_image: bool,
    pub(crate) pull_policy: Option<String>,
    pub(crate) redirect_image: Option<String>,
    pub(crate) judge: FlagJudge,
}

impl Configuration {
    /// From `--image` and the document of `--defaults`; an error is one sentence that names the flag.
    pub fn new(
        image: Option<&str>,
        defaults: Option<(&str, &Value)>,
        judge: FlagJudge,
    ) -> Result<Configuration, String> {
        let (file, document) = defaults.unwrap_or(("", &Value::Null));
        let wrong = |why: String| format!("--defaults {file}: {why}");
        let keys::Defaults { texts, own, locked } = keys::defaults(document).map_err(wrong)?;
        let default_image = texts.get("image").map(String::as_str);
        let Some(image) = image.or(default_image).map(str::trim).filter(|image| !image.is_empty()) else {
            return Err("no --image is given; name the sidecar's image, or set image in --defaults".to_owned());
        };
        is_image(image).map_err(|why| format!("--image {image:?} {why}"))?;
        let allows_image = match own.get("image-annotation").map(String::as_str) {
            None | Some("refused") => false,
            Some("allowed") => true,
            Some(other) => {
                return Err(wrong(format!("image-annotation {other:?} is not known; choose allowed or refused")));
            }
        };
        let pull_policy = own.get("image-pull-policy").cloned();
        if let Some(policy) = &pull_policy
            && !["Always", "IfNotPresent", "Never"].contains(&policy.as_str())
        {
            return Err(wrong(format!(
                "image-pull-policy {policy:?} is not known; choose Always, IfNotPresent or Never"
            )));
        }
        let redirect_image = own.get("redirect-image").cloned();
        if let Some(image) = &redirect_image {
            is_image(image).map_err(|why| wrong(format!("redirect-image {image:?} {why}")))?;
        }
        let image = image.to_owned();
        let mut defaults = texts;
        // The flag goes before the file.
        defaults.insert("image".to_owned(), image.clone());
        let configuration = Configuration { image, defaults, locked, allows_image, pull_policy, redirect_image, judge };
        configuration.check_defaults().map_err(wrong)?;
        Ok(configuration)
    }

    /// The sidecar's image.
    #[must_use]
    pub fn image(&self) -> &str {
        &self.image
    }

    /// Every default is read once as a pod would have it, so that a slip shows at start and not at the first pod.
    fn check_defaults(&self) -> Result<(), String> {
        let values = Values::of(None, self).map_err(|refusal| refusal.sentence)?;
        Wish::check_alone(&values, self).map_err(|refusal| refusal.sentence)
    }
}

/// Kubernetes asks for no more than a text without blanks around it; a reference has none inside either.
pub(crate) fn is_image(text: &str) -> Result<(), &'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"./:@_-[]".contains(&byte);
    match !text.is_empty() && text.len() <= 512 && text.bytes().all(plain) {
        true => Ok(()),
        false => Err("is no image; write a reference like registry.example/portcullis:1.0 or one with @sha256:…"),
    }
}
