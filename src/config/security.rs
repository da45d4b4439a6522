//! How brokers are spoken to: the settings, and the check that makes of them what the wire client goes by.
//!
//! The check reads the files that are named, so that what is wrong with them is said with all the rest, before the network.
//! Passwords and tokens are read again for each connection; certificates and keys are not.

use crate::{
    kafka::wire::{Mechanism, Sasl, Security, Tls, TlsSettings},
    secret::Source,
};

/// What lies between us and a broker (`--security`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// Bare TCP.
    #[default]
    Plaintext,
    /// TLS 1.2 or 1.3.
    Tls,
}

/// How brokers are spoken to, as it was given. The fields are named after the flags.
#[derive(Debug, Clone, Default)]
pub struct SecuritySettings {
    /// TLS or not (`--security`).
    pub protocol: Protocol,
    /// The flags that begin with `--tls`.
    pub tls: TlsSettings,
    /// How we say who we are; not at all if this is `None`.
    pub sasl: Option<Mechanism>,
    /// Our name, for all but OAUTHBEARER.
    pub sasl_user: Option<String>,
    /// Our password, for all but OAUTHBEARER. A file is read again for each connection.
    pub sasl_password: Option<Source>,
    /// Our token, for OAUTHBEARER. A file is read again for each connection.
    pub sasl_token: Option<Source>,
    /// Takes PLAIN and OAUTHBEARER without TLS, where anybody on the way can read password and token.
    pub allow_secrets_in_plaintext: bool,
}

impl SecuritySettings {
    /// Checks the settings. Notes what is wrong with them, all of it, in `errors`.
    pub(super) fn check(&self, errors: &mut Vec<String>) -> Security {
        let tls = match self.protocol {
            Protocol::Tls => Tls::new(&self.tls).map_err(|wrong| errors.extend(wrong)).ok(),
            Protocol::Plaintext => {
                errors.extend(self.idle_tls().map(|flag| format!("{flag} is of no use without --security tls")));
                None
            }
        };
        Security { tls, sasl: self.check_sasl(errors) }
    }

    fn idle_tls(&self) -> impl Iterator<Item = &'static str> {
        let TlsSettings { ca, cert, key, key_password, server_name, no_server_name_check, provider: _ } = &self.tls;
        let given = [
            ("--tls-ca", ca.is_some()),
            ("--tls-cert", cert.is_some()),
            ("--tls-key", key.is_some()),
            ("--tls-key-password-file", key_password.is_some()),
            ("--tls-server-name", server_name.is_some()),
            ("--tls-no-server-name-check", *no_server_name_check),
        ];
        given.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag)
    }

    fn check_sasl(&self, errors: &mut Vec<String>) -> Option<Sasl> {
        let user = ("--sasl-user", self.sasl_user.is_some());
        let password = ("--sasl-password-file (or LONGSHORE_SASL_PASSWORD)", self.sasl_password.is_some());
        let token = ("--sasl-token-file (or LONGSHORE_SASL_TOKEN)", self.sasl_token.is_some());
        let mut of_no_use = |unused: &[(&str, bool)], with: &str| {
            let unused = unused.iter().filter(|(_, given)| *given);
            errors.extend(unused.map(|(flag, _)| format!("{flag} is of no use {with}")));
        };
        let Some(mechanism) = self.sasl else {
            of_no_use(&[user, password, token], "without --sasl");
            return None;
        };
        let wanted = if mechanism == Mechanism::OAuthBearer {
            of_no_use(&[user, password], "with --sasl oauthbearer");
            vec![token]
        } else {
            of_no_use(&[token], "without --sasl oauthbearer");
            vec![user, password]
        };
        let missing = wanted.iter().filter(|(_, given)| !given);
        errors.extend(missing.map(|(flag, _)| format!("{flag} is required with SASL {mechanism}")));
        if mechanism.shows_its_secret() && self.protocol == Protocol::Plaintext && !self.allow_secrets_in_plaintext {
            errors.push(format!(
                "SASL {mechanism} without --security tls shows the secret to anybody on the way: use TLS, or a SCRAM \
                 mechanism, or say --allow-secrets-in-plaintext"
            ));
        }
        for (flag, source) in [("--sasl-password-file", &self.sasl_password), ("--sasl-token-file", &self.sasl_token)] {
            if let Some(Err(error)) = source.as_ref().map(Source::read_line) {
                errors.push(format!("{flag}: {error}"));
            }
        }
        match (mechanism, &self.sasl_user, &self.sasl_password, &self.sasl_token) {
            (Mechanism::OAuthBearer, _, _, Some(token)) => Some(Sasl::token(token.clone())),
            (Mechanism::OAuthBearer, ..) => None,
            (_, Some(user), Some(password), _) => Some(Sasl::password(mechanism, user, password.clone())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn inline(text: &str) -> Option<Source> {
        Some(Source::Inline(Secret::new(text)))
    }

    #[track_caller]
    fn check(settings: &SecuritySettings, expected: &[&str]) {
        let mut errors = Vec::new();
        settings.check(&mut errors);
        assert_eq!(errors.len(), expected.len(), "{errors:#?}");
        for (error, expected) in errors.iter().zip(expected) {
            assert!(error.contains(expected), "{error:?} does not say {expected:?}");
        }
    }

    fn scram() -> SecuritySettings {
        SecuritySettings {
            sasl: Some(Mechanism::ScramSha256),
            sasl_user: Some("alice".to_owned()),
            sasl_password: inline("secret"),
            ..SecuritySettings::default()
        }
    }

    #[test]
    fn a_password_does_not_go_in_the_clear_unless_it_is_allowed() {
        let plain = SecuritySettings { sasl: Some(Mechanism::Plain), ..scram() };
        check(&plain, &["shows the secret to anybody"]);
        check(&SecuritySettings { allow_secrets_in_plaintext: true, ..plain }, &[]);
        check(&scram(), &[]);
        let token =
            SecuritySettings { sasl: Some(Mechanism::OAuthBearer), sasl_token: inline("t"), ..Default::default() };
        check(&token, &["shows the secret to anybody"]);
    }

    #[test]
    fn what_is_missing_and_what_is_of_no_use_is_said() {
        check(
            &SecuritySettings { sasl_user: None, sasl_password: None, ..scram() },
            &["--sasl-user", "--sasl-password-file"],
        );
        check(&SecuritySettings { sasl: None, ..scram() }, &["--sasl-user is of no use", "--sasl-password-file"]);
        check(
            &SecuritySettings { sasl_token: inline("t"), ..scram() },
            &["--sasl-token-file (or LONGSHORE_SASL_TOKEN) is"],
        );
        let tls = TlsSettings { ca: inline("x"), no_server_name_check: true, ..TlsSettings::default() };
        check(
            &SecuritySettings { tls, ..scram() },
            &["--tls-ca is of no use", "--tls-no-server-name-check is of no use"],
        );
        check(&SecuritySettings { sasl_password: inline(""), ..scram() }, &["the given text is empty"]);
    }

    #[test]
    fn everything_wrong_with_tls_is_said_at_once() {
        let tls = TlsSettings {
            ca: inline("no certificate"),
            key: inline("x"),
            server_name: Some("not a name".to_owned()),
            ..TlsSettings::default()
        };
        let settings = SecuritySettings { protocol: Protocol::Tls, tls, ..SecuritySettings::default() };
        check(
            &settings,
            &["--tls-ca: the given text has no certificate", "--tls-key: a key without", "--tls-server-name: "],
        );
    }
}
