//! A crowd of mTLS sessions, for measuring what happens to thousands of them at once.
//!
//! `benches/peers/cut` starts one process for each part: the forge of certificates, the app behind the proxy, the
//! clients that hold sessions, and those that keep asking. It must never judge what it sees: every end of a session is
//! reported with its times, and the bench decides what they mean.

mod app;
mod busy;
mod credentials;
mod hold;
mod mint;
mod session;
mod stamp;
mod told;

use std::io;
use std::path::Path;

const USAGE: &str =
    "crowd mint FOLDER COUNT | app | hold FOLDER PORT KINDS EVERY_MS | busy FOLDER PORT FIRST COUNT RATE";

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let part = tokio::task::LocalSet::new();
    match words.as_slice() {
        ["mint", folder, count] => mint::mint(Path::new(folder), number(count)?),
        ["app"] => part.run_until(app::serve()).await,
        ["hold", folder, port, kinds, every] => {
            let wish = hold::Wish { port: number(port)?, kinds, every: number(every)? };
            part.run_until(hold::serve(Path::new(folder), wish)).await
        }
        ["busy", folder, port, first, count, rate] => {
            let wish =
                busy::Wish { port: number(port)?, first: number(first)?, count: number(count)?, rate: number(rate)? };
            part.run_until(busy::serve(Path::new(folder), wish)).await
        }
        _ => Err(io::Error::other(USAGE)),
    }
}

fn number<N: std::str::FromStr>(word: &str) -> io::Result<N> {
    word.parse().map_err(|_| io::Error::other(format!("{word} is not a number that fits: {USAGE}")))
}
