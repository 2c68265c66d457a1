//! The operators' side of a running proxy: its listener bound early, its anchors read, and served at last.
//!
//! Used by `run.rs`. It must never let anybody in before the traffic's knowledge is loaded.

use std::convert::Infallible;

use control::{Control, ControlAddress, Sidecar};
use sources::ControlAnchors;
use trust::Time;

use crate::Failure;
use crate::control_flags::ControlSettings;

/// The control listener, bound and ready to be served.
pub(crate) struct Operators {
    control: Control,
    settings: ControlSettings,
    anchors: Option<ControlAnchors>,
    warnings: Vec<String>,
}

impl Operators {
    /// Reads the anchors and binds; `None` without `--control`.
    pub(crate) async fn prepare(settings: Option<ControlSettings>, now: Time) -> Result<Option<Operators>, Failure> {
        let Some(settings) = settings else { return Ok(None) };
        let (anchors, warnings) = settings.anchors(now)?.unzip();
        let warnings = warnings.into_iter().flatten().chain(settings.warning()).collect();
        let control = Control::bind(&settings.address).await.map_err(Failure::AtStart)?;
        Ok(Some(Operators { control, settings, anchors, warnings }))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &ControlAddress {
        self.control.address()
    }

    /// What works, and deserves a look.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Answers until it is dropped.
    pub(crate) async fn serve(self, sidecar: Sidecar) -> Infallible {
        let door = self.settings.door(self.anchors, &sidecar.live);
        self.control.serve(sidecar, door).await
    }
}
