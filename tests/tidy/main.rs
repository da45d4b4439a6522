//! Keeps the house in order: what reviewers would otherwise have to look for each time.
//!
//! ```text
//!  the tree ──files──▶ rules.rs ─┐
//!                                ├──▶ findings: none, or the test fails and lists them
//!  cargo metadata ───▶ deps.rs ──┘
//! ```
//!
//! A rule is a function from a path and a text to findings, so that its own test can plant a violation in a string.
//! Nothing here judges style that `cargo fmt` and clippy judge already.

mod deps;
mod rules;
mod scan;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file of the repository: its path from the root, with `/`, and its text.
struct File {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the repository that people write, in the order of their paths.
fn tree() -> Vec<File> {
    let mut files = Vec::new();
    walk(&root(), &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "the tree was not found");
    files
}

fn walk(folder: &Path, files: &mut Vec<File>) {
    const NOT_OURS: [&str; 5] = [".git", "target", "node_modules", ".venv", "Cargo.lock"];
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let entry = entry.expect("an entry of a folder");
        let path = entry.path();
        let name = entry.file_name();
        // A checkout may hold a developer's own `.env`, which is none of our business.
        if NOT_OURS.iter().any(|n| name == *n) || name == ".env" {
            continue;
        }
        if entry.file_type().expect("a file's type").is_dir() {
            walk(&path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
            files.push(File { path, text });
        }
    }
}

/// Applies `rule` to every file and fails with all that it finds.
#[track_caller]
fn check(rule: impl Fn(&str, &str) -> Vec<String>) {
    report(tree().iter().flat_map(|file| rule(&file.path, &file.text)).collect());
}

#[track_caller]
fn report(findings: Vec<String>) {
    assert!(findings.is_empty(), "{} to put in order:\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn no_unsafe_code() {
    check(rules::no_unsafe);
}

#[test]
fn only_kafka_and_broker_name_a_kafka_crate() {
    check(rules::kafka_crates);
}

#[test]
fn pure_files_are_pure() {
    check(rules::pure);
}

#[test]
fn nothing_prints_but_main_and_cli() {
    check(rules::prints);
}

#[test]
fn every_channel_is_bounded() {
    check(rules::bounded);
}

#[test]
fn every_module_says_what_it_is_for() {
    check(rules::purpose);
}

#[test]
fn no_file_is_too_long() {
    let files = tree();
    report(rules::length(files.iter().map(|file| (file.path.as_str(), file.text.as_str()))));
}

#[test]
fn nothing_is_left_for_later() {
    check(rules::unfinished);
}

#[test]
fn text_is_clean() {
    check(rules::clean_text);
}

#[test]
fn every_decision_is_in_the_index() {
    let files = tree();
    report(rules::decisions(files.iter().map(|file| (file.path.as_str(), file.text.as_str()))));
}

#[test]
fn the_readme_names_the_command_that_ci_runs() {
    let files = tree();
    report(rules::test_command(files.iter().map(|file| (file.path.as_str(), file.text.as_str()))));
}

/// Other people's crates that are built for this host.
fn packages() -> Vec<deps::Package> {
    deps::packages(&deps::metadata(&root()), &deps::built(&root(), &deps::host()))
}

#[test]
fn nothing_compiles_c() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    report(deps::names(&lock));
    for target in deps::TARGETS {
        report(deps::built_after_all(&deps::built(&root(), target), target));
    }
    report(packages().iter().flat_map(deps::build).collect());
}

#[test]
fn every_licence_is_allowed() {
    let deny = fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
    let allowed = deps::allowed_licences(&deny);
    report(packages().iter().flat_map(|package| deps::licence(package, &allowed)).collect());
}
