//! The rules about one file: each a pure function from a file to its offences.
//!
//! Called by `main.rs` for every file and for samples. The words that a rule forbids are put together from halves:
//! this file keeps the rules too. It must never read anything but the file it is given.

use crate::Page;

const MOST_LINES: usize = 400;
/// They say that something is somewhere, not what it is.
const EMPTY_NAMES: [&str; 7] = ["manager", "helper", "util", "utility", "common", "misc", "inner"];
const UNFINISHED: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
const SKIPPED_TESTS: [&str; 3] = [concat!("#[ig", "nore"), concat!(", ig", "nore)]"), concat!("```ig", "nore")];
pub(crate) const SLEEP: &str = concat!("thread::", "sleep");
const MACHINE: [&str; 4] = [concat!("/wo", "rk/"), concat!("/tm", "p/h"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
/// May put a thread to sleep: the pace of a publisher against handshakes; nothing waits for it.
pub(crate) const SLEEPERS: [&str; 1] = ["tests/cut/races.rs"];
/// Our crates, and which of ours each may name. `testkit` is for the `[dev-dependencies]` of all others.
const CRATES: [(&str, &[&str]); 8] = [
    ("trust", &[]),
    ("testkit", &[]),
    ("revocation", &["trust"]),
    ("proxy", &["trust"]),
    ("sources", &["proxy", "revocation", "trust"]),
    ("control", &["proxy", "sources", "trust"]),
    ("injector", &["control", "proxy", "sources", "trust"]),
    ("portcullis", &["control", "injector", "proxy", "revocation", "sources", "trust"]),
];

pub(crate) fn opens_with_its_purpose(page: &Page) -> Vec<String> {
    let wrong = page.path.ends_with(".rs") && !page.text.starts_with("//! ");
    whole(page, wrong, "open it with `//!`: what it does, who calls it, what it must never do")
}

pub(crate) fn is_short(page: &Page) -> Vec<String> {
    let count = page.text.lines().count();
    let code = [".rs", ".py", ".c"].iter().any(|end| page.path.ends_with(end));
    whole(page, code && count > MOST_LINES, &format!("{count} lines; split it by ideas, {MOST_LINES} are the most"))
}

pub(crate) fn has_a_telling_name(page: &Page) -> Vec<String> {
    let module = |line: &str| has_word(line, "mod") && line.ends_with(['{', ';']) && !line.contains(['"', '/']);
    let modules = rust(page, "name it after what it does", |line| module(line) && is_empty_name(line));
    whole(page, is_empty_name(&page.path), "name it after what it does").into_iter().chain(modules).collect()
}

pub(crate) fn is_finished(page: &Page) -> Vec<String> {
    lines(page, "finish it, or open an issue", |line| UNFINISHED.iter().any(|word| has_word(line, word)))
}

pub(crate) fn ignores_no_test(page: &Page) -> Vec<String> {
    rust(page, "run the test or delete it", |line| SKIPPED_TESTS.iter().any(|mark| line.contains(mark)))
}

pub(crate) fn puts_no_thread_to_sleep(page: &Page) -> Vec<String> {
    let wrong = |line: &str| line.contains(SLEEP) && !SLEEPERS.contains(&page.path.as_str());
    rust(page, "wait for a state, with a deadline", wrong)
}

pub(crate) fn names_no_machine(page: &Page) -> Vec<String> {
    lines(page, "no path of one machine", |line| MACHINE.iter().any(|path| line.contains(path)))
}

pub(crate) fn ends_no_line_in_blanks(page: &Page) -> Vec<String> {
    lines(page, "remove the blanks at its end", |line| page.path.ends_with(".md") && line != line.trim_end())
}

/// Clippy counts the lines and parameters of functions, the compiler forbids; here only whether every crate lets them.
pub(crate) fn carries_the_lints(page: &Page) -> Vec<String> {
    let needed: &[&str] = match page.path.as_str() {
        "clippy.toml" => &["too-many-lines-threshold = 70", "too-many-arguments-threshold = 4"],
        path if !path.ends_with("Cargo.toml") || path.starts_with("fuzz/") => &[],
        _ if page.text.contains("[lints]\nworkspace = true") => &[],
        _ => &["unsafe_code = \"forbid\"", "too_many_lines = \"warn\"", "too_many_arguments = \"warn\""],
    };
    let missing = needed.iter().filter(|line| !page.text.lines().any(|found| found == **line));
    let exempt = rust(page, "make the function smaller", |line| line.contains(concat!("clippy::too", "_many")));
    missing.map(|line| format!("{}: write `{line}`", page.path)).chain(exempt).collect()
}

pub(crate) fn depends_one_way(page: &Page) -> Vec<String> {
    let ["crates", name, "Cargo.toml"] = page.path.split('/').collect::<Vec<_>>()[..] else { return Vec::new() };
    let Some((_, allowed)) = CRATES.iter().find(|(known, _)| *known == name) else {
        return whole(page, true, "say in tests/tidy/rules.rs which of our crates it may name");
    };
    let (mut section, mut found) = ("", Vec::new());
    for line in page.text.lines().filter_map(|line| line.split('#').next()) {
        section = if line.starts_with('[') { line } else { section };
        let forge = name != "testkit" && section.starts_with("[dev-dependencies");
        let may = |word: &str| allowed.contains(&word) || (forge && word == "testkit");
        let ours = CRATES.iter().map(|(word, _)| *word).filter(|word| has_word(line, word));
        let wrong = ours.filter(|word| section.contains("dependencies") && !may(word));
        found.extend(wrong.map(|word| format!("{}: {name} may not name {word} in {section}", page.path)));
    }
    found
}

fn whole(page: &Page, wrong: bool, remedy: &str) -> Vec<String> {
    wrong.then(|| format!("{}: {remedy}", page.path)).into_iter().collect()
}

fn lines(page: &Page, remedy: &str, wrong: impl Fn(&str) -> bool) -> Vec<String> {
    let numbered = page.text.lines().enumerate().filter(|(_, line)| wrong(line));
    numbered.map(|(index, line)| format!("{}:{}: {remedy}: {}", page.path, index + 1, line.trim())).collect()
}

fn rust(page: &Page, remedy: &str, wrong: impl Fn(&str) -> bool) -> Vec<String> {
    lines(page, remedy, |line| page.path.ends_with(".rs") && wrong(line))
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|sign: char| !sign.is_alphanumeric() && sign != '_').any(|found| found == word)
}

fn is_empty_name(name: &str) -> bool {
    let mut words = name.split(|sign: char| !sign.is_alphanumeric());
    words.any(|word| EMPTY_NAMES.contains(&word.trim_end_matches('s')))
}
