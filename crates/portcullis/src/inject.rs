//! `portcullis inject`: Kubernetes objects in, the same with sidecars out.
//!
//! Called by `main.rs`. Objects go to standard output, what became of each to standard error. It must never print
//! half of the objects: whoever pipes them on would create what was refused.

use std::path::Path;

use injector::{Configuration, Mode, Outcome, filter};

use crate::injector_flags::{self, InjectWish};
use crate::{Failure, print};

/// Bytes of one file or of standard input.
const FILE_BYTES: u64 = 64 << 20;

/// Injects, or takes out.
pub(crate) fn inject(wish: &InjectWish) -> Result<(), Failure> {
    let configuration: Option<Configuration> = if wish.uninject { None } else { Some(wish.sidecar.configuration()?) };
    let mode = configuration.as_ref().map_or(Mode::Uninject, Mode::Inject);
    let (mut all, mut refused) = (String::new(), 0_usize);
    for path in &wish.file {
        let wrong = |why: String| Failure::AtStart(format!("-f {}: {why}", path.display()));
        let text = match path == Path::new("-") {
            true => injector_flags::read(std::io::stdin().lock(), FILE_BYTES),
            false => injector_flags::text(path, FILE_BYTES),
        };
        let filtered = filter(&text.map_err(wrong)?, &mode).map_err(wrong)?;
        for report in &filtered.reports {
            let told = tell(&report.outcome, wish.uninject);
            refused += usize::from(matches!(report.outcome, Outcome::Refused(_)));
            told.iter().for_each(|sentence| print::error(&plain(&format!("{}: {sentence}", report.object))));
        }
        append(&mut all, &filtered.text);
    }
    if refused > 0 {
        print::error("nothing is printed, since what was refused must not be created");
        return Err(Failure::Told(1));
    }
    print::out(&all);
    Ok(())
}

fn tell(outcome: &Outcome, uninject: bool) -> Vec<String> {
    match outcome {
        Outcome::Changed(warnings) => {
            let done = if uninject { "the sidecar is taken out" } else { "injected" };
            let warned = warnings.iter().map(|warning| format!("injected, but look: {warning}"));
            if warnings.is_empty() { vec![done.to_owned()] } else { warned.collect() }
        }
        Outcome::Unchanged(why) => vec![format!("unchanged: {why}")],
        Outcome::Refused(why) => vec![format!("refused: {why}")],
    }
}

/// What a file holds must not steer a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Files become one stream of documents.
fn append(all: &mut String, text: &str) {
    if !all.is_empty() {
        if !all.ends_with('\n') {
            all.push('\n');
        }
        let is_apart = text.trim_start().starts_with('{') || text.starts_with("---");
        all.push_str(if is_apart { "" } else { "---\n" });
    }
    all.push_str(text);
}
