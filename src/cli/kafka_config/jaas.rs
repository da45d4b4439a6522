//! PURE: the value of `sasl.jaas.config`: one login module, a word that says how much it matters, and options.
//!
//! ```text
//! org.apache.kafka.common.security.plain.PlainLoginModule required username="alice" password="a \"secret\"";
//! ```
//!
//! Read as Kafka's `JaasConfig` reads it, with Java's `StreamTokenizer`: quotes of both kinds, escapes in them, and
//! comments of both kinds. An error shows nothing of the text, which may be a password.

use std::{collections::BTreeMap, iter::Peekable, str::Chars};

use longshore::secret::Secret;

/// A login module with its options.
#[derive(Debug)]
pub(super) struct Login {
    /// The last part of its class's name: `PlainLoginModule`.
    pub(super) module: String,
    pub(super) options: BTreeMap<String, Secret>,
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Sign(char),
}

/// # Errors
/// What is wrong with it.
pub(super) fn parse(text: &str) -> Result<Login, String> {
    let mut tokens = tokens(text)?.into_iter().peekable();
    let Some(Token::Word(class)) = tokens.next() else {
        return Err("it does not begin with the class of a login module".to_owned());
    };
    match tokens.next() {
        Some(Token::Word(flag)) if is_flag(&flag) => {}
        _ => return Err(format!("{class} is not followed by required (or requisite, sufficient, optional)")),
    }
    let mut options = BTreeMap::new();
    loop {
        let name = match tokens.next() {
            Some(Token::Word(name)) => name,
            Some(Token::Sign(';')) => break,
            None => return Err("it does not end with a semicolon".to_owned()),
            Some(_) => return Err("where an option is due there is something else".to_owned()),
        };
        if tokens.next() != Some(Token::Sign('=')) {
            return Err(format!("option {name} is not followed by ="));
        }
        let (Some(Token::Word(value)) | Some(Token::Quoted(value))) = tokens.next() else {
            return Err(format!("option {name} has no value"));
        };
        options.insert(name, Secret::new(value));
    }
    if tokens.peek().is_some() {
        return Err("it has more than one login module".to_owned());
    }
    let module = class.rsplit('.').next().unwrap_or(&class).to_owned();
    Ok(Login { module, options })
}

fn is_flag(word: &str) -> bool {
    ["required", "requisite", "sufficient", "optional"].iter().any(|flag| word.eq_ignore_ascii_case(flag))
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut chars = text.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(&c) = chars.peek() {
        if c.is_whitespace() {
            chars.next();
        } else if matches!(c, '"' | '\'') {
            chars.next();
            tokens.push(Token::Quoted(quoted(&mut chars, c)?));
        } else if c == '/' {
            comment(&mut chars)?;
        } else if is_word(c) {
            let mut word = String::new();
            while let Some(c) = chars.next_if(|c| is_word(*c)) {
                word.push(c);
            }
            tokens.push(Token::Word(word));
        } else {
            chars.next();
            tokens.push(Token::Sign(c));
        }
    }
    Ok(tokens)
}

/// What stands in a word without quotes.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$' | '.' | '-') || c >= '\u{a0}'
}

fn comment(chars: &mut Peekable<Chars<'_>>) -> Result<(), String> {
    chars.next();
    match chars.next() {
        Some('/') => while chars.next_if(|c| !matches!(c, '\n' | '\r')).is_some() {},
        Some('*') => {
            let mut last = ' ';
            loop {
                match chars.next() {
                    Some('/') if last == '*' => break,
                    Some(c) => last = c,
                    None => return Err("a comment in it does not end".to_owned()),
                }
            }
        }
        _ => return Err("a value with a / in it has to be in quotes".to_owned()),
    }
    Ok(())
}

fn quoted(chars: &mut Peekable<Chars<'_>>, quote: char) -> Result<String, String> {
    let mut text = String::new();
    loop {
        match chars.next() {
            Some(c) if c == quote => return Ok(text),
            Some('\\') => text.push(match chars.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some('f') => '\x0c',
                Some('b') => '\x08',
                Some('a') => '\x07',
                Some('v') => '\x0b',
                Some(first @ '0'..='7') => octal(chars, first),
                Some(c) => c,
                None => return Err("a quote in it does not end".to_owned()),
            }),
            Some(c) if !matches!(c, '\n' | '\r') => text.push(c),
            _ => return Err("a quote in it does not end".to_owned()),
        }
    }
}

/// Up to three digits, and no more than two where the first is above 3.
fn octal(chars: &mut Peekable<Chars<'_>>, first: char) -> char {
    let mut value = first.to_digit(8).unwrap_or_default();
    for _ in 0..if first <= '3' { 2 } else { 1 } {
        let Some(digit) = chars.next_if(|c| c.is_digit(8)).and_then(|c| c.to_digit(8)) else { break };
        value = value * 8 + digit;
    }
    char::from_u32(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, module: &str, options: &[(&str, &str)]) {
        let login = parse(text).unwrap();
        let found: Vec<_> = login.options.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!((login.module.as_str(), &found[..]), (module, options), "{text}");
    }

    #[test]
    fn modules_and_options() {
        let plain =
            "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"alice\" password=\"pw\";";
        check(plain, "PlainLoginModule", &[("password", "pw"), ("username", "alice")]);
        check(
            " ScramLoginModule\n REQUIRED\n\tusername = alice\n password='p;w' ; ",
            "ScramLoginModule",
            &[("password", "p;w"), ("username", "alice")],
        );
        check("a.B required;", "B", &[]);
        check("a.B /* c ** */ required // d\n e=\"f\";", "B", &[("e", "f")]);
    }

    #[test]
    fn escapes_in_quotes() {
        check(r#"B required p="a\"b\\c\td\101\7";"#, "B", &[("p", "a\"b\\c\tdA\x07")]);
        check(r#"B required p="it's = ; # / fine";"#, "B", &[("p", "it's = ; # / fine")]);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        let check = |text: &str, reason: &str| {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason) && !error.contains("hunter2"), "{error}");
        };
        check("", "does not begin with");
        check("B username=\"hunter2\";", "not followed by required");
        check("B required password=\"hunter2\"", "semicolon");
        check("B required password=\"hunter2;", "does not end");
        check("B required password \"hunter2\";", "option password is not followed by =");
        check("B required password=;", "option password has no value");
        check("B required \"hunter2\"=a;", "something else");
        check("B required password=hunter2/x;", "in quotes");
        check("B required; C required;", "more than one");
    }
}
