//! The rules about README.md: what the code has, the page names, and what the page names, exists.
//!
//! Called by `main.rs` for the tree and for samples. Pure: texts in, offences out. It must never be content with
//! nothing to compare: then the code has changed its shape, and the rule must follow.

/// Every metric of `code` stands in the page, and every metric of the page in `code`.
pub(crate) fn metrics(code: &str, readme: &str) -> Vec<String> {
    let is_metric = |word: &&str| word.starts_with("portcullis_") && word.chars().all(is_name);
    let made: Vec<&str> = code.split('"').filter(is_metric).collect();
    let told: Vec<&str> = readme.split(|sign| !is_name(sign)).filter(is_metric).collect();
    let gone = absent("metric in the code that the page calls", &told, |name| made.contains(&name));
    absent("metric", &made, |name| told.contains(&name)).into_iter().chain(gone).collect()
}

/// Every flag that `code` gives to clap, by its field's name, stands in the page.
pub(crate) fn flags(code: &str, readme: &str) -> Vec<String> {
    let (mut flags, mut is_flag) = (Vec::new(), false);
    for line in code.lines().map(str::trim) {
        if line.starts_with("#[arg(") {
            is_flag |= line.split(|sign| !is_name(sign)).any(|word| word == "long");
        } else if !line.starts_with("//") && std::mem::take(&mut is_flag) {
            let field = line.trim_start_matches("pub(crate) ").split(':').next().unwrap_or_default();
            flags.push(format!("--{}", field.replace('_', "-")));
        }
    }
    let told: Vec<&str> = readme.split(|sign| !is_name(sign) && sign != '-').collect();
    absent("flag", &flags, |flag| told.contains(&flag))
}

/// Every word of a denial stands in the page.
pub(crate) fn denials(code: &str, readme: &str) -> Vec<String> {
    let list = between(code, "DENIAL_LABELS:", "];");
    absent("denial", &quoted(list, '"'), |word| readme.contains(&format!("`{word}`")))
}

/// Every path under "Finding things" exists.
pub(crate) fn paths(readme: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut paths = quoted(between(readme, "## Finding things", "\n## "), '`');
    paths.retain(|word| word.contains('/'));
    absent("file under Finding things", &paths, exists)
}

/// An offence for each that is not there, and one if there is nothing to look for.
fn absent<T: AsRef<str>>(what: &str, wanted: &[T], is_there: impl Fn(&str) -> bool) -> Vec<String> {
    if wanted.is_empty() {
        return vec![format!("tests/tidy/readme.rs finds no {what} at all: look another way")];
    }
    let missing = wanted.iter().map(AsRef::as_ref).filter(|word| !is_there(word));
    missing.map(|word| format!("README.md: no {what} {word}")).collect()
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let rest = text.split_once(start).map_or("", |(_, rest)| rest);
    rest.split(end).next().unwrap_or_default()
}

fn quoted(text: &str, mark: char) -> Vec<&str> {
    text.split(mark).skip(1).step_by(2).collect()
}

fn is_name(sign: char) -> bool {
    sign.is_ascii_lowercase() || sign.is_ascii_digit() || sign == '_'
}
