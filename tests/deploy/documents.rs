//! The commands of the documents: each that is ours is one that the program knows, with each of its flags.
//! It must never take a command for known because its first word is.

use std::collections::BTreeSet;

use crate::tools::{command, run};

const DOCUMENTS: [&str; 3] = ["docs/kubernetes.md", "docs/runbook.md", "docs/injection.md"];

fn text(path: &str) -> String {
    let place = format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&place).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every `portcullis …` of a page, in a block or between backticks, up to what ends a command.
fn commands(page: &str) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for part in page.split(['`', '\n', '|', '&', ';']) {
        let mut words = part.trim().trim_start_matches("$ ").split_whitespace();
        if words.next() != Some("portcullis") {
            continue;
        }
        let words: Vec<String> = words.map(|word| word.trim_matches(['[', ']', ',']).to_owned()).collect();
        if words.first().is_some_and(|word| word.chars().all(|sign| sign.is_ascii_lowercase())) {
            found.insert(words);
        }
    }
    found
}

/// The subcommand's own words, and its flags.
fn parts(words: &[String]) -> (Vec<&str>, Vec<&str>) {
    let depth = if ["revocations", "sessions"].contains(&words[0].as_str()) { 2 } else { 1 };
    let flags = words.iter().filter(|word| word.starts_with('-') && word.len() > 1);
    let flags = flags.map(|flag| flag.split('=').next().unwrap()).collect();
    (words.iter().take(depth).map(String::as_str).collect(), flags)
}

#[test]
fn commands_are_found_in_a_page() {
    let page = "a `portcullis deny --id x` b\n```\n$ portcullis run --allow 'y' | tee\nportcullis: no\n```\n";
    let found: Vec<Vec<String>> = commands(page).into_iter().collect();
    assert_eq!(found, [vec!["deny", "--id", "x"], vec!["run", "--allow", "'y'"]]);
}

#[tokio::test]
async fn every_command_of_the_documents_is_known_with_each_of_its_flags() {
    let found: BTreeSet<_> = DOCUMENTS.iter().flat_map(|path| commands(&text(path))).collect();
    assert!(found.len() > 5, "{found:?}");
    for words in found {
        let (command_words, flags) = parts(&words);
        let told = run(command(env!("CARGO_BIN_EXE_portcullis")).args(&command_words).arg("--help")).await;
        assert_eq!(told.code, Some(0), "{words:?}: {told:?}");
        for flag in flags {
            let known =
                told.out.split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '-').any(|word| word == flag);
            assert!(known, "portcullis {}: no flag {flag}", command_words.join(" "));
        }
    }
}
