//! The rules about files. Each is followed, at the end, by a test that plants a violation.

use crate::scan::{code, lines_with, module_doc, without_tests};

/// Soft bound of a file under `src`, in lines.
const MAX_LINES: usize = 500;

/// Files that may be longer, with the reason. One that has become shorter has to leave this list.
const LONG_FILES: [(&str, &str); 0] = [];

/// Files that have to be PURE: the core decides, the shell acts.
const PURE_FILES: [&str; 5] =
    ["src/tracker.rs", "src/progress.rs", "src/membership.rs", "src/group/dealer.rs", "src/engine/share.rs"];

/// What a PURE file does not name: the word, and what it would bring in.
///
/// A log line (`tracing`) is let pass: nothing that is decided depends on it.
const IMPURE: [(&str, &str); 20] = [
    ("async", "async"),
    (".await", "async"),
    ("tokio", "async"),
    ("futures", "async"),
    ("Instant::now", "a clock; time is an argument"),
    ("SystemTime", "a clock; time is an argument"),
    ("elapsed", "a clock; time is an argument"),
    ("std::fs", "I/O"),
    ("std::io", "I/O"),
    ("std::net", "I/O"),
    ("std::env", "I/O"),
    ("std::process", "I/O"),
    ("std::thread", "threads"),
    ("thread::", "threads"),
    ("Mutex", "threads"),
    ("RwLock", "threads"),
    ("rand", "randomness"),
    ("getrandom", "randomness"),
    ("RandomState", "randomness"),
    ("thread_local!", "threads"),
];

/// The command that tests everything, as the README names it and as CI calls it.
const TEST_COMMAND: &str = "cargo test --locked";

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

fn is_source(path: &str) -> bool {
    is_rust(path) && path.starts_with("src/")
}

/// Whether `path` is a file of the crate that is no module of tests.
fn is_working_source(path: &str) -> bool {
    is_source(path) && !path.ends_with("/tests.rs") && !path.contains("/tests/")
}

/// Whether `path` belongs to the module `name` of the crate: `src/NAME.rs` or something in `src/NAME/`.
fn in_module(path: &str, name: &str) -> bool {
    path.strip_prefix("src/").and_then(|p| p.strip_prefix(name)).is_some_and(|p| p == ".rs" || p.starts_with('/'))
}

fn findings(path: &str, code: &str, needle: &str, why: &str) -> Vec<String> {
    lines_with(code, needle).into_iter().map(|line| format!("{path}:{line}: `{needle}`: {why}")).collect()
}

/// No `unsafe`, in tests, benches and examples neither, where the crate's own `forbid` does not reach.
pub(crate) fn no_unsafe(path: &str, text: &str) -> Vec<String> {
    if is_rust(path) { findings(path, &code(text), "unsafe", "nothing of ours needs it") } else { Vec::new() }
}

/// Only `kafka` and `broker` name a Kafka crate, so that the core knows none of its types. A module's own tests may, to
/// compare with it.
pub(crate) fn kafka_crates(path: &str, text: &str) -> Vec<String> {
    let outside = is_source(path) && !in_module(path, "kafka") && !in_module(path, "broker");
    if !outside && !path.starts_with("examples/") {
        return Vec::new();
    }
    let code = code(text);
    let code = without_tests(&code);
    let crates = ["rskafka", "kafka_protocol"];
    crates.iter().flat_map(|name| findings(path, code, name, "only src/kafka and src/broker name it")).collect()
}

/// A file whose doc says PURE is pure, and those that have to be say so.
pub(crate) fn pure(path: &str, text: &str) -> Vec<String> {
    if !is_working_source(path) {
        return Vec::new();
    }
    let says = !lines_with(&module_doc(text), "PURE").is_empty();
    if !says {
        let must = PURE_FILES.contains(&path);
        return must.then(|| format!("{path}: its doc does not say PURE")).into_iter().collect();
    }
    let code = code(text);
    let code = without_tests(&code);
    IMPURE
        .iter()
        .flat_map(|(needle, brings)| findings(path, code, needle, &format!("a PURE file has no {brings}")))
        .collect()
}

/// Standard output and error belong to the program's edge; everything else logs or returns.
pub(crate) fn prints(path: &str, text: &str) -> Vec<String> {
    if !is_working_source(path) || in_module(path, "main") || in_module(path, "cli") {
        return Vec::new();
    }
    let code = code(text);
    let macros = ["println!", "eprintln!", "print!", "eprint!", "dbg!"];
    macros.iter().flat_map(|name| findings(path, &code, name, "only main and cli print")).collect()
}

/// Promise 9: reaching a limit means pausing, never growing.
pub(crate) fn bounded(path: &str, text: &str) -> Vec<String> {
    if !is_working_source(path) {
        return Vec::new();
    }
    let code = code(text);
    let code = without_tests(&code);
    let makers = ["unbounded", "unbounded_channel", "mpsc::channel()"];
    makers.iter().flat_map(|name| findings(path, code, name, "a channel has a capacity")).collect()
}

/// A Rust file begins with a doc of its module that says what it is for, in more than a word.
pub(crate) fn purpose(path: &str, text: &str) -> Vec<String> {
    const SHORTEST: usize = 10;
    let missing = is_rust(path) && module_doc(text).lines().next().is_none_or(|line| line.len() < SHORTEST);
    missing.then(|| format!("{path}: begins with no `//!` line that says what it is for")).into_iter().collect()
}

/// No file under `src` is longer than [`MAX_LINES`], but for [`LONG_FILES`].
pub(crate) fn length<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    length_but_for(files, &LONG_FILES)
}

fn length_but_for<'a>(files: impl Iterator<Item = (&'a str, &'a str)>, allowed: &[(&str, &str)]) -> Vec<String> {
    let long: Vec<_> = files
        .filter(|(path, _)| is_source(path))
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .collect();
    let too_long = long
        .iter()
        .filter(|(path, _)| !allowed.iter().any(|(a, _)| a == path))
        .map(|(path, lines)| format!("{path}: {lines} lines, the bound is {MAX_LINES}"));
    let stale = allowed
        .iter()
        .filter(|(path, _)| !long.iter().any(|(p, _)| p == path))
        .map(|(path, _)| format!("{path}: is not too long any more, so it has to leave LONG_FILES"));
    too_long.chain(stale).collect()
}

/// What is begun is finished or not there; a test is not switched off without a reason.
pub(crate) fn unfinished(path: &str, text: &str) -> Vec<String> {
    if !is_rust(path) || path.starts_with("tests/tidy/") {
        return Vec::new();
    }
    let words = ["TODO", "FIXME", "XXX", "HACK", "todo!", "unimplemented!", "#[ignore]", "#[allow(dead_code)]"];
    words.iter().flat_map(|word| findings(path, text, word, "finish it, or say the reason")).collect()
}

/// No trailing blanks, no tabs but where a format wants them, a line break at the end, and no em dash.
pub(crate) fn clean_text(path: &str, text: &str) -> Vec<String> {
    let ours = [".rs", ".toml", ".md", ".sh", ".yml", ".py"].iter().any(|end| path.ends_with(end))
        || ["justfile", "Containerfile", ".ci/run"].contains(&path)
        || text.starts_with("#!/");
    if !ours {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (at, line) in text.split('\n').enumerate() {
        let wrong = [
            (line.ends_with([' ', '\t']), "blanks at the end"),
            (line.starts_with('\t'), "a tab"),
            (line.contains('\u{2014}'), "an em dash"),
            (line.contains('\r'), "a carriage return"),
        ];
        found.extend(wrong.iter().filter(|(is, _)| *is).map(|(_, what)| format!("{path}:{}: {what}", at + 1)));
    }
    if !text.is_empty() && !text.ends_with('\n') {
        found.push(format!("{path}: no line break at the end"));
    }
    found
}

/// Every record of a decision is linked from the index, and the index links nothing that is not there.
pub(crate) fn decisions<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    const FOLDER: &str = "docs/adr/";
    const INDEX: &str = "README.md";
    let records: Vec<_> = files.filter_map(|(path, text)| Some((path.strip_prefix(FOLDER)?, text))).collect();
    let Some((_, index)) = records.iter().find(|(name, _)| *name == INDEX) else {
        return vec![format!("{FOLDER}{INDEX}: the index is missing")];
    };
    let linked: Vec<&str> =
        index.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|to| to.ends_with(".md")).collect();
    let unlinked = records
        .iter()
        .filter(|(name, _)| *name != INDEX && !linked.contains(name))
        .map(|(name, _)| format!("{FOLDER}{name}: not linked from {INDEX}"));
    let dangling = linked
        .iter()
        .filter(|to| !to.contains('/') && !records.iter().any(|(name, _)| name == *to))
        .map(|to| format!("{FOLDER}{INDEX}: links {to}, which is not there"));
    unlinked.chain(dangling).collect()
}

/// The README's test command is the one that CI runs.
pub(crate) fn test_command<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    files
        .filter(|(path, _)| ["README.md", ".ci/run"].contains(path))
        .filter(|(_, text)| !text.contains(TEST_COMMAND))
        .map(|(path, _)| format!("{path}: does not name `{TEST_COMMAND}`"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOC: &str = "//! What this module is for, in a line.\n";

    /// `rule` finds something in `bad` at `path`, and nothing in `good`.
    #[track_caller]
    fn catches(rule: impl Fn(&str, &str) -> Vec<String>, path: &str, bad: &str, good: &str) {
        assert!(!rule(path, bad).is_empty(), "not caught in {path}: {bad}");
        assert_eq!(rule(path, good), [] as [&str; 0], "{path}: {good}");
    }

    #[test]
    fn unsafe_is_caught_in_code_only() {
        catches(no_unsafe, "benches/a.rs", "fn a() { unsafe { b() } }", "// unsafe\n#![forbid(unsafe_code)]");
    }

    #[test]
    fn a_kafka_crate_is_caught_outside_its_modules() {
        let names = "use kafka_protocol::messages::ApiKey;";
        catches(kafka_crates, "src/engine.rs", names, "//! Not rskafka.\nuse crate::kafka::Wire;");
        let compares = format!("//! Our own.\n#[cfg(test)]\nmod tests {{\n    {names}\n}}\n");
        catches(kafka_crates, "src/batch.rs", &format!("{names}\n{compares}"), &compares);
        catches(kafka_crates, "src/kafkaesque.rs", "rskafka::x();", "x();");
        for inside in ["src/kafka.rs", "src/kafka/wire.rs", "src/broker.rs", "src/broker/log.rs", "tests/it/main.rs"] {
            assert_eq!(kafka_crates(inside, names), [] as [&str; 0]);
        }
    }

    #[test]
    fn impurity_is_caught_but_for_tests() {
        for (needle, _) in IMPURE {
            let bad = format!("//! PURE: decides, and does nothing.\nfn a() {{ x {needle} y }}\n");
            assert!(!pure("src/tracker.rs", &bad).is_empty(), "{needle}");
        }
        let good = "//! PURE: no Instant::now here.\nuse std::time::Instant; // async\nfn a(now: Instant) {}\n\
                    #[cfg(test)]\nmod tests {\n    fn b() { Instant::now(); }\n}\n";
        assert_eq!(pure("src/tracker.rs", good), [] as [&str; 0]);
    }

    #[test]
    fn a_core_that_does_not_say_pure_is_caught() {
        catches(pure, "src/progress.rs", "//! Encodes.\n", "//! PURE. Encodes.\n");
        assert_eq!(pure("src/engine.rs", "//! The engine.\nasync fn a() {}"), [] as [&str; 0]);
    }

    #[test]
    fn a_print_is_caught_outside_main_and_cli() {
        for name in ["println!", "eprintln!", "print!", "eprint!", "dbg!"] {
            catches(prints, "src/engine.rs", &format!("{name}(1);"), "writeln!(f, \"println!\")");
        }
        for edge in ["src/main.rs", "src/cli.rs", "src/cli/summary.rs", "examples/hash.rs"] {
            assert_eq!(prints(edge, "println!();"), [] as [&str; 0]);
        }
    }

    #[test]
    fn an_unbounded_channel_is_caught() {
        for maker in ["crossbeam_channel::unbounded()", "mpsc::unbounded_channel()", "mpsc::channel()"] {
            catches(bounded, "src/pool.rs", &format!("let c = {maker};"), "let c = mpsc::channel(8); // unbounded");
            assert_eq!(bounded("src/pool/tests.rs", maker), [] as [&str; 0]);
        }
    }

    #[test]
    fn a_module_without_a_doc_is_caught() {
        catches(purpose, "src/a.rs", "use b;\n//! Too late to be a doc of it.\n", DOC);
    }

    #[test]
    fn a_long_file_is_caught_and_so_is_a_stale_exception() {
        let long = "\n".repeat(MAX_LINES + 1);
        let files = [("src/a.rs", long.as_str()), ("tests/b.rs", long.as_str()), ("src/c.rs", "short")];
        let found = |allowed: &[(&str, &str)]| length_but_for(files.into_iter(), allowed);
        assert_eq!(found(&[]), ["src/a.rs: 501 lines, the bound is 500"]);
        assert_eq!(found(&[("src/a.rs", "a table")]), [] as [&str; 0]);
        assert_eq!(found(&[("src/a.rs", "a table"), ("src/c.rs", "was long")]).len(), 1);
    }

    #[test]
    fn what_is_left_for_later_is_caught() {
        for bad in ["// TODO: more", "todo!()", "#[ignore]", "/// FIXME", "#[allow(dead_code)]"] {
            catches(unfinished, "src/a.rs", bad, "#[ignore = \"needs a broker\"]");
        }
    }

    #[test]
    fn unclean_text_is_caught() {
        for bad in ["a \n", "\ta\n", "a \u{2014} b\n", "a", "a\r\n"] {
            catches(clean_text, "docs/a.md", bad, "a: b\n");
        }
        assert_eq!(clean_text("benches/peers/main.go", "\ta\n"), [] as [&str; 0]);
    }

    #[test]
    fn a_decision_outside_the_index_is_caught() {
        let found = |index: &str| {
            let files = [("docs/adr/README.md", index), ("docs/adr/0001-a.md", "# A"), ("docs/b.md", "")];
            decisions(files.into_iter())
        };
        assert_eq!(found("[A](0001-a.md), [B](../b.md)"), [] as [&str; 0]);
        assert_eq!(found("none"), ["docs/adr/0001-a.md: not linked from README.md"]);
        assert_eq!(found("[A](0001-a.md) [C](0002-c.md)").len(), 1);
        assert_eq!(decisions([("docs/adr/0001-a.md", "# A")].into_iter()).len(), 1);
    }

    #[test]
    fn another_test_command_is_caught() {
        assert_eq!(test_command([("README.md", "cargo nextest"), ("docs/a.md", "")].into_iter()).len(), 1);
        assert_eq!(test_command([("README.md", "`cargo test --locked`")].into_iter()), [] as [&str; 0]);
    }
}
