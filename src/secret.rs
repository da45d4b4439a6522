//! Passwords, tokens and keys: where they come from, and that nobody prints them.
//!
//! A [`Secret`] has no `Display`, and its `Debug` shows nothing of it. Its memory is overwritten when it is dropped;
//! what was copied out of it by then (into a request, by a library) is not ours to overwrite.

use std::{fmt, fs, path::PathBuf};

use zeroize::Zeroizing;

/// The longest file that is taken for a secret or for certificates: no bundle of roots is nearly as large.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// A text that is not to be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Keeps `text` secret from here on.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself: for whoever it is meant for, and never for a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

/// Where a secret, a key or a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, which is read when its content is needed.
    File(PathBuf),
    /// Here it is.
    Inline(Secret),
}

impl Source {
    /// Its content, whole.
    ///
    /// # Errors
    /// Why there is none, with the file's name.
    pub fn read(&self) -> Result<Secret, String> {
        match self {
            Self::Inline(secret) => Ok(secret.clone()),
            Self::File(path) => {
                let name = path.display();
                let length = fs::metadata(path).map_err(|error| format!("{name}: {error}"))?.len();
                if length > MAX_FILE_BYTES {
                    return Err(format!("{name} has {length} bytes, and at most {MAX_FILE_BYTES} are taken"));
                }
                let bytes = Zeroizing::new(fs::read(path).map_err(|error| format!("{name}: {error}"))?);
                if bytes.starts_with(&[0xFE, 0xED, 0xFE, 0xED]) || bytes.first() == Some(&0x30) {
                    return Err(keystore(&name.to_string()));
                }
                let text = std::str::from_utf8(&bytes).map_err(|_| format!("{name} is not text"))?;
                Ok(Secret::new(text))
            }
        }
    }

    /// Its content as one line, such as a password or a token: without the line break that ends a file. Anything else
    /// at its ends belongs to it.
    ///
    /// # Errors
    /// Why there is none.
    pub fn read_line(&self) -> Result<Secret, String> {
        let whole = self.read()?;
        let text = whole.expose();
        let line = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
        match line {
            "" => Err(format!("{} is empty", self.name())),
            line if line.contains(['\n', '\r', '\0']) => Err(format!("{} has more than one line", self.name())),
            line => Ok(Secret::new(line)),
        }
    }

    /// What to call it in an error.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Inline(_) => "the given text".to_owned(),
        }
    }
}

/// Java's own formats hold the same things in another way.
fn keystore(name: &str) -> String {
    format!(
        "{name} is a Java keystore (JKS or PKCS#12) or bare DER, and PEM is taken. Its CA certificates: keytool -list -rfc \
         -keystore {name} > ca.pem. A key with its certificate: keytool -importkeystore -srckeystore {name} -destkeystore \
         new.p12 -deststoretype PKCS12 && openssl pkcs12 -in new.p12 -nodes -out client.pem"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> (tempfile::TempDir, Source) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, bytes).unwrap();
        (folder, Source::File(path))
    }

    #[test]
    fn a_secret_is_not_shown() {
        let source = Source::Inline(Secret::new("hunter2"));
        assert!(!format!("{source:?} {source:#?}").contains("hunter2"));
    }

    #[test]
    fn the_line_break_at_the_end_of_a_file_is_not_part_of_a_password() {
        let read = |bytes: &[u8]| {
            let (folder, source) = file(bytes);
            let line = source.read_line().map(|secret| secret.expose().to_owned());
            drop(folder);
            line
        };
        assert_eq!(read(b" pass word \n").unwrap(), " pass word ");
        assert_eq!(read(b"p\r\n").unwrap(), "p");
        assert_eq!(read(b"p").unwrap(), "p");
        assert!(read(b"\n").unwrap_err().ends_with("is empty"));
        assert!(read(b"a\nb\n").unwrap_err().ends_with("more than one line"));
        assert!(
            Source::File("/nowhere/secret".into()).read_line().unwrap_err().contains("/nowhere/secret: No such file")
        );
    }

    #[test]
    fn a_java_keystore_is_told_from_pem() {
        let (_folder, source) = file(&[0xFE, 0xED, 0xFE, 0xED, 0, 0, 0, 2]);
        assert!(source.read().unwrap_err().contains("keytool -list -rfc"));
        let (_folder, source) = file(&[0x30, 0x82, 1, 1]);
        assert!(source.read().unwrap_err().contains("openssl pkcs12"));
    }
}
