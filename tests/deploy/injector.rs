//! The injector between the chart's files: run as the Deployment runs it, asked as its registration asks, judged by the
//! chart's policy.
//! It must never tell the script anything but where the program is.

use crate::scripts::script;

#[tokio::test]
async fn what_the_injector_makes_by_the_charts_files_passes_the_charts_policy() {
    let told = script("injector", env!("CARGO_BIN_EXE_portcullis")).await;
    assert_eq!(told.code, Some(0), "{}\n{}", told.out, told.err);
    assert_eq!(told.out.matches("ok: ").count(), 7, "{}", told.out);
}
