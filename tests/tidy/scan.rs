//! Reads Rust just far enough for the rules: what is code, and what is a comment or a literal.

/// The code of a Rust file: comments and the content of literals are blanked, line breaks stay.
pub(crate) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = vec![b' '; bytes.len()];
    let mut at = 0;
    while at < bytes.len() {
        let end = skip(bytes, at);
        if end == at {
            out[at] = bytes[at];
            at += 1;
        } else {
            at = end;
        }
    }
    for (at, byte) in bytes.iter().enumerate() {
        if *byte == b'\n' {
            out[at] = b'\n';
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where the comment or literal that begins at `at` ends; `at` itself if none begins there.
fn skip(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let word_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => at + block_comment(rest),
        [b'"', ..] => at + quoted(rest, b'"'),
        [b'r', b'"' | b'#', ..] if !word_before => at + raw_string(rest),
        [b'b', b'r', b'"' | b'#', ..] if !word_before => at + 1 + raw_string(&rest[1..]),
        [b'\'', b'\\', ..] => at + quoted(rest, b'\''),
        // A character, not a lifetime: the closing quote follows within one character (up to four bytes).
        [b'\'', ..] => {
            let width = rest.get(1).map_or(0, |b| utf8_width(*b));
            if width > 0 && rest.get(1 + width) == Some(&b'\'') { at + width + 2 } else { at }
        }
        _ => at,
    }
}

fn utf8_width(first: u8) -> usize {
    match first {
        b'\'' => 0,
        0..0x80 => 1,
        0xC0..0xE0 => 2,
        0xE0..0xF0 => 3,
        _ => 4,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// The length of `r"…"` or `r#"…"#`; 0 for a raw identifier such as `r#type`.
fn raw_string(rest: &[u8]) -> usize {
    let hashes = rest[1..].iter().take_while(|b| **b == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let end: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = 2 + hashes;
    rest[body..].windows(end.len()).position(|w| w == end).map_or(rest.len(), |p| body + p + end.len())
}

/// The lines of `code` on which `needle` stands as a word of its own (or a path of words), counted from 1.
///
/// Where `needle` begins or ends with something other than a letter, a digit or `_`, any neighbour will do there.
pub(crate) fn lines_with(code: &str, needle: &str) -> Vec<usize> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let free = |edge: Option<char>, neighbour: Option<char>| !(edge.is_some_and(word) && neighbour.is_some_and(word));
    let has = |line: &str| {
        line.match_indices(needle).any(|(at, found)| {
            free(needle.chars().next(), line[..at].chars().next_back())
                && free(needle.chars().next_back(), line[at + found.len()..].chars().next())
        })
    };
    code.lines().enumerate().filter(|(_, line)| has(line)).map(|(at, _)| at + 1).collect()
}

/// The doc of a module: its leading `//!` lines.
pub(crate) fn module_doc(text: &str) -> String {
    let doc = text.lines().take_while(|line| line.starts_with("//!"));
    doc.map(|line| line.trim_start_matches("//!").trim()).collect::<Vec<_>>().join("\n")
}

/// What comes before the module of a file's own tests, which may do what the file itself may not.
pub(crate) fn without_tests(code: &str) -> &str {
    let at = code.match_indices("\n#[cfg(test)]\n").find(|(at, found)| {
        let rest = &code[at + found.len()..];
        rest.starts_with("mod ") && rest.lines().next().is_some_and(|line| line.ends_with('{'))
    });
    at.map_or(code, |(at, _)| &code[..at])
}

#[test]
fn comments_and_literals_are_not_code() {
    let text = "a(); // unsafe one\n/* unsafe /* two */ unsafe */ b(\"unsafe \\\" three\", 'u', '\"', r#\"unsafe \"four\"#);\n\
                let c: &'static str = br\"unsafe\"; // it's\nr#unsafe_d();";
    let code = code(text);
    assert!(lines_with(&code, "unsafe").is_empty(), "{code}");
    for kept in ["a();", "b(", "&'static str", "unsafe_d();"] {
        assert!(code.contains(kept), "{kept} is lost in {code}");
    }
    assert_eq!(code.lines().count(), text.lines().count());
}

#[test]
fn a_word_is_found_only_as_a_word() {
    assert_eq!(lines_with("unsafe_code\nx.unsafe {\nunsafely", "unsafe"), [2]);
    assert_eq!(lines_with("a.await;\na.awaited", ".await"), [1]);
    assert_eq!(lines_with("eprintln!(\"x\");", "println!"), [] as [usize; 0]);
}

#[test]
fn tests_at_the_end_are_cut_off() {
    assert_eq!(without_tests("fn a() {}\n#[cfg(test)]\nmod tests {\n}\n"), "fn a() {}");
    assert_eq!(without_tests("fn a() {}\n#[cfg(test)]\nfn b() {}\n"), "fn a() {}\n#[cfg(test)]\nfn b() {}\n");
}
