//! h2load with a client's certificate, which it cannot show by itself: `shim.c` is preloaded into it.
//! Called by `http2.rs` and by `tests/streams`. It must never preload the program.

use tokio::process::Command;

use crate::stage::Stage;
use crate::tools::{command, run_with};

/// h2load that shows the certificate of this name.
pub(crate) async fn h2load(stage: &Stage, name: &str) -> Command {
    let shim = stage.text("shim.so");
    if !stage.path("shim.so").exists() {
        let mut compiler = command("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", &shim, "-ldl"]);
        let compiled = run_with(&mut compiler, include_bytes!("shim.c")).await;
        assert_eq!(compiled.code, Some(0), "{compiled:?}");
    }
    let mut load = command("h2load");
    load.env("LD_PRELOAD", &shim)
        .env("CLIENT_CERT", stage.text(&format!("{name}.pem")))
        .env("CLIENT_KEY", stage.text(&format!("{name}.key")));
    load
}
