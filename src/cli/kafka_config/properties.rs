//! PURE: the format of Java's properties files, as `java.util.Properties` reads it; only that this one is in UTF-8.

use std::iter::Peekable;

/// The pairs of a properties file, in order. Where a key is there twice, Java takes the last.
///
/// # Errors
/// What is wrong, with the number of the line.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let line = line.trim_start_matches(is_blank);
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = line.to_owned();
        while goes_on(&whole) {
            whole.pop();
            let Some((_, next)) = lines.next() else { break };
            whole.push_str(next.trim_start_matches(is_blank));
        }
        pairs.push(pair(&whole).map_err(|error| format!("line {}: {error}", number + 1))?);
    }
    Ok(pairs)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// Whether a line ends in a backslash that is not itself escaped.
fn goes_on(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// The key ends at the first `=`, `:` or blank; blanks around that sign belong to neither side.
fn pair(line: &str) -> Result<(String, String), String> {
    let mut chars = line.chars().peekable();
    let mut key = String::new();
    while let Some(c) = chars.next_if(|c| !is_blank(*c) && !matches!(c, '=' | ':')) {
        key.push(if c == '\\' { escaped(&mut chars)? } else { c });
    }
    while chars.next_if(|c| is_blank(*c)).is_some() {}
    if chars.next_if(|c| matches!(c, '=' | ':')).is_some() {
        while chars.next_if(|c| is_blank(*c)).is_some() {}
    }
    let mut value = String::new();
    while let Some(c) = chars.next() {
        value.push(if c == '\\' { escaped(&mut chars)? } else { c });
    }
    Ok((key, value))
}

/// What a backslash and that which follows stand for.
fn escaped(chars: &mut Peekable<impl Iterator<Item = char>>) -> Result<char, String> {
    Ok(match chars.next() {
        Some('t') => '\t',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('f') => '\x0c',
        Some('u') => {
            let first = utf16_unit(chars)?;
            if !(0xD800..0xDC00).contains(&first) {
                return char::from_u32(first).ok_or_else(|| "half a character after \\u".to_owned());
            }
            // A character beyond the first 65,536 is written as two.
            if chars.next_if_eq(&'\\').is_none() || chars.next_if_eq(&'u').is_none() {
                return Err("half a character after \\u".to_owned());
            }
            let second = utf16_unit(chars)?;
            let character = second.checked_sub(0xDC00).filter(|low| *low < 0x400);
            let character = character.and_then(|low| char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + low));
            return character.ok_or_else(|| "half a character after \\u".to_owned());
        }
        Some(other) => other,
        None => '\\',
    })
}

fn utf16_unit(chars: &mut impl Iterator<Item = char>) -> Result<u32, String> {
    let mut unit = 0;
    for _ in 0..4 {
        let digit =
            chars.next().and_then(|c| c.to_digit(16)).ok_or("\\u is not followed by four hexadecimal digits")?;
        unit = unit * 16 + digit;
    }
    Ok(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(parse(text).unwrap(), expected, "{text:?}");
    }

    #[test]
    fn keys_and_values_as_java_takes_them() {
        check(
            "a=b\nc = d \n e:f\r\ng h\ni\n\tj=\n",
            &[("a", "b"), ("c", "d "), ("e", "f"), ("g", "h"), ("i", ""), ("j", "")],
        );
        check("a==b\nc = = d\ne:=f", &[("a", "=b"), ("c", "= d"), ("e", "=f")]);
    }

    #[test]
    fn comments_and_blank_lines_are_left_out() {
        check("# a=b\n  ! c=d\\\n\n \t\ne=f # not a comment\n", &[("e", "f # not a comment")]);
    }

    #[test]
    fn a_line_goes_on_after_a_backslash() {
        check("a=b\\\n   c\\\n# d\ne=f\\\\\ng=h\\", &[("a", "bc# d"), ("e", "f\\"), ("g", "h")]);
        check("a=\\\n\nb=c", &[("a", ""), ("b", "c")]);
    }

    #[test]
    fn escapes() {
        check(r"a\=b\:c\ d=e\tf\ng\\h\q", &[("a=b:c d", "e\tf\ng\\hq")]);
        check(r"a=\u00e9\ud83d\ude00\u0041", &[("a", "é😀A")]);
        assert_eq!(parse("a=b\nc=\\u12x4").unwrap_err(), "line 2: \\u is not followed by four hexadecimal digits");
        assert!(parse("a=\\ud83d").unwrap_err().contains("half a character"));
        assert!(parse("a=\\ud83d\\u0041").unwrap_err().contains("half a character"));
    }
}
