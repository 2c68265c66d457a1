//! The program as these tests start it, and what its output is compared with.
//! Called by every module here. It must never read the output with a library of the program's own.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::tools::{Told, command, run_with};

pub(crate) const IMAGE: &str = "registry.example/portcullis:1";

/// A file beside the tests.
pub(crate) fn sample(name: &str) -> String {
    format!("{}/../../tests/inject/samples/{name}", env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn text(name: &str) -> String {
    std::fs::read_to_string(sample(name)).unwrap()
}

/// `portcullis inject` with these arguments and this on its standard input.
pub(crate) async fn inject(arguments: &[&str], input: &str) -> Told {
    let mut command = command(env!("CARGO_BIN_EXE_portcullis"));
    run_with(command.arg("inject").args(arguments), input.as_bytes()).await
}

/// Its output for this input; it must have gone well.
pub(crate) async fn injected(input: &str) -> String {
    let told = inject(&["-f", "-", "--image", IMAGE], input).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    told.out
}

/// `objects.py` with these arguments.
pub(crate) async fn objects(arguments: &[&str], input: &str) -> String {
    let python: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("deploy/bin/python");
    assert!(python.exists(), "{} is missing; run make test", python.display());
    let script = format!("{}/../../tests/inject/objects.py", env!("CARGO_MANIFEST_DIR"));
    let mut command = command(python.to_str().unwrap());
    let told = run_with(command.args(["-B", "-s", &script]).args(arguments), input.as_bytes()).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    told.out
}

/// All documents of a YAML text, as another's reader sees them.
pub(crate) async fn read(yaml: &str) -> Vec<Value> {
    serde_json::from_str(&objects(&["json"], yaml).await).unwrap()
}
