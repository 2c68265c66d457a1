//! The rules of the house, over the whole tree: what the compiler and the lints do not see.
//!
//! Run with all other tests. Every rule is a pure function that returns offences, and each test shows it bad samples
//! before the tree: a rule that cannot fail is none. It must never change a file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod readme;
mod rules;

use std::fs;

/// One file; its path is from the root, with `/`.
struct Page {
    path: String,
    text: String,
}

fn place(path: &str) -> String {
    format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(place(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file below `folder` that somebody wrote. Links are not followed: none is ours.
fn walk(folder: &str) -> Vec<Page> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(place(folder)).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let (path, kind) = (format!("{folder}{name}"), entry.file_type().unwrap());
        // Made by tools, or bytes for the fuzzer; what begins with a dot belongs to tools as well.
        if name.starts_with('.') || ["target", "certs-dev", "corpus", "Cargo.lock"].contains(&name.as_str()) {
            continue;
        } else if kind.is_dir() {
            pages.extend(walk(&format!("{path}/")));
        } else if let Ok(bytes) = fs::read(entry.path()) {
            pages.push(Page { path, text: String::from_utf8_lossy(&bytes).into_owned() });
        }
    }
    pages
}

/// The rule is content with the first sample, a path and a text; it finds an offence in each other, none in the tree.
fn holds(rule: fn(&Page) -> Vec<String>, good: (&str, &str), bad: &[(&str, &str)]) {
    let judged = |(path, text): (&str, &str)| rule(&Page { path: path.to_owned(), text: text.to_owned() });
    none(&judged(good));
    for sample in bad {
        assert!(!judged(*sample).is_empty(), "the rule finds nothing in {sample:?}");
    }
    let pages = walk("");
    assert!(pages.len() > 100, "only {} files: this is not the tree", pages.len());
    none(&pages.iter().flat_map(rule).collect::<Vec<_>>());
}

fn none(offences: &[String]) {
    assert!(offences.is_empty(), "{} offences:\n{}", offences.len(), offences.join("\n"));
}

#[test]
fn every_rust_file_opens_with_its_purpose() {
    holds(rules::opens_with_its_purpose, ("a.rs", "//! A.\n"), &[("a.rs", "use a;\n//! A.\n"), ("b.rs", "// A.\n")]);
}

#[test]
fn no_file_of_code_is_longer_than_four_hundred_lines() {
    let long = "//! Long.\n".repeat(401);
    holds(rules::is_short, ("a.rs", &"//! Short.\n".repeat(400)), &[("a.rs", &long), ("a.py", &long)]);
}

#[test]
fn every_crate_carries_the_lints_on_unsafe_code_and_large_functions() {
    let bad = [
        ("clippy.toml", "too-many-lines-threshold = 700\ntoo-many-arguments-threshold = 4\n"),
        ("Cargo.toml", "too_many_lines = \"warn\"\ntoo_many_arguments = \"warn\"\n"),
        ("a.rs", concat!("#[allow(clippy::too", "_many_lines)]\n")),
    ];
    holds(rules::carries_the_lints, ("crates/a/Cargo.toml", "[lints]\nworkspace = true\n"), &bad);
    assert!(!text("clippy.toml").is_empty(), "the thresholds are gone");
}

#[test]
fn no_file_and_no_module_has_an_empty_name() {
    let bad = [("utils.rs", ""), ("common/mod.rs", ""), ("a.rs", "mod url_helpers;"), ("a.rs", " pub mod inner {")];
    let good = ("src/commonwealth.rs", "mod judge;\n// the common mod inner;\nlet inner = module;\n");
    holds(rules::has_a_telling_name, good, &bad);
}

#[test]
fn nothing_is_left_unfinished() {
    let bad = [("a.md", concat!("a TO", "DO: b")), ("a.rs", concat!("// FIX", "ME")), ("a.py", concat!("# XX", "X"))];
    holds(rules::is_finished, ("a.rs", "//! Makes a file named XXXX.\n"), &bad);
}

#[test]
fn no_test_is_ignored() {
    let plain = [("a.rs", concat!("#[ig", "nore]\n")), ("a.rs", concat!("#[ig", "nore = \"slow\"]\n"))];
    let hidden = [("a.rs", concat!("#[cfg_attr(unix, ig", "nore)]\n")), ("a.rs", concat!("//! ```ig", "nore\n"))];
    holds(rules::ignores_no_test, ("a.rs", "fn it_ignores_a_list() {}\n"), &[plain, hidden].concat());
}

#[test]
fn no_thread_sleeps_where_a_state_can_be_awaited() {
    let bad = ("a.rs", concat!("std::thread::", "sleep(PAUSE);\n"));
    holds(rules::puts_no_thread_to_sleep, ("a.rs", "yield_now().await;\n"), &[bad]);
    let sleeps = |path: &&str| text(path).contains(rules::SLEEP);
    assert!(rules::SLEEPERS.iter().all(sleeps), "a file on the list of sleepers sleeps no more");
}

#[test]
fn nothing_names_a_path_of_one_machine() {
    let folders = [("a.rs", concat!("\"/wo", "rk/main\"")), ("a.md", concat!("see /tm", "p/h/notes"))];
    let homes = [("Makefile", concat!("/ro", "ot/.cargo")), ("a.toml", concat!("path = \"/ho", "me/anna/a\""))];
    holds(rules::names_no_machine, ("a.md", "`/etc/portcullis/roots.pem`, network/a.rs"), &[folders, homes].concat());
}

#[test]
fn no_line_of_a_document_ends_in_blanks() {
    holds(rules::ends_no_line_in_blanks, ("a.md", "# A\n\nb\n"), &[("a.md", "a  \nb"), ("a.md", "a\t\n")]);
}

#[test]
fn dependencies_run_one_way() {
    let good = ("crates/proxy/Cargo.toml", "[dependencies]\ntrust = {}\n[dev-dependencies]\ntestkit = {} # control\n");
    let bad = [
        ("crates/revocation/Cargo.toml", "[dependencies.proxy]\nworkspace = true\n"),
        ("crates/proxy/Cargo.toml", "[target.'cfg(unix)'.dependencies]\nsources = {}\n"),
        ("crates/proxy/Cargo.toml", "[dependencies]\nother = { path = \"../control\" }\n"),
        ("crates/portcullis/Cargo.toml", "[dependencies]\ntestkit = {}\n"),
        ("crates/testkit/Cargo.toml", "[dev-dependencies]\ntrust.workspace = true\n"),
        ("crates/new/Cargo.toml", "[dependencies]\n"),
    ];
    holds(rules::depends_one_way, good, &bad);
}

#[test]
fn the_readme_names_every_metric_and_no_other() {
    let code = "gauge(\"portcullis_epoch\", \"The portcullis_other.\")";
    none(&readme::metrics(code, "`portcullis_epoch{a}`"));
    assert_eq!(readme::metrics(code, "`portcullis_epochs`").len(), 2);
    assert_eq!(readme::metrics("", "").len(), 2);
    let folders = ["crates/proxy/src/", "crates/injector/src/"].map(walk);
    let files = folders.into_iter().flatten().filter(|page| page.path.ends_with("metrics.rs"));
    let code: String = files.map(|page| page.text).collect();
    none(&readme::metrics(&code, &text("README.md")));
}

#[test]
fn the_readme_names_every_flag() {
    let code = "#[arg(long, env = \"A\")]\n#[arg(hide = true)]\npub(crate) max_age: bool,\n#[arg(skip)]\nb: u8,";
    none(&readme::flags(code, "| `--max-age DUR` |"));
    assert_eq!(readme::flags(code, "`--max-age-of-all`, `--b`").len(), 1);
    none(&readme::flags(&text("crates/portcullis/src/args.rs"), &text("README.md")));
    for page in walk("crates/portcullis/src/").iter().filter(|page| page.path.ends_with("_flags.rs")) {
        none(&readme::flags(&page.text, &text("README.md")));
    }
}

#[test]
fn the_readme_names_every_denial() {
    let code = "DENIAL_LABELS: [&str; 2] = [\n    \"idle\",\n    \"revoked\",\n];\n\"other\"";
    none(&readme::denials(code, "`idle`, `revoked`"));
    assert_eq!(readme::denials(code, "`idle`, revoked").len(), 1);
    none(&readme::denials(&text("crates/trust/src/denial.rs"), &text("README.md")));
}

#[test]
fn every_path_in_the_readmes_table_of_places_exists() {
    let page = "`no/such` \n## Finding things\n| a | `b/c.rs`, `d/e.rs` |\n## Next\n`f/g.rs`\n";
    none(&readme::paths(page, |path| ["b/c.rs", "d/e.rs"].contains(&path)));
    assert_eq!(readme::paths(page, |path| path == "b/c.rs").len(), 1);
    none(&readme::paths(&text("README.md"), |path| fs::exists(place(path)).unwrap()));
}
