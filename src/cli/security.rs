//! The flags about TLS and SASL, and what they mean.
//!
//! No flag takes a secret: whoever may list processes could read it. Secrets come from files, from the environment, or from
//! the properties file.

use clap::Args as ClapArgs;
use longshore::{
    config::{Mechanism, Protocol, SecuritySettings, TlsProvider, TlsSettings},
    secret::{Secret, Source},
};

use super::{Reading, layers::Value, yes_or_no};

/// What was typed about TLS and SASL.
#[derive(Debug, ClapArgs, Default)]
#[command(next_help_heading = "Security")]
pub(crate) struct SecurityArgs {
    /// What lies between Longshore and the brokers: plaintext or tls [default: plaintext]
    #[arg(long, value_name = "plaintext|tls")]
    pub(crate) security: Option<String>,
    /// PEM file with the certificates of the authorities to trust [default: the system's]
    #[arg(long, value_name = "PATH")]
    pub(crate) tls_ca: Option<String>,
    /// PEM file with our own certificate, for brokers that want one, and those that lead to its authority
    #[arg(long, value_name = "PATH")]
    pub(crate) tls_cert: Option<String>,
    /// PEM file with its key: PKCS#8, PKCS#1 or SEC1 [default: looked for in --tls-cert]
    #[arg(long, value_name = "PATH")]
    pub(crate) tls_key: Option<String>,
    /// File with the password of an encrypted key; or the password itself in LONGSHORE_TLS_KEY_PASSWORD
    #[arg(long, value_name = "PATH")]
    pub(crate) tls_key_password_file: Option<String>,
    /// Name that the brokers' certificates have to be for [default: the host that is connected to]
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_server_name: Option<String>,
    /// Take any certificate of a trusted authority, whoever it was issued for
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) tls_no_server_name_check: Option<String>,
    /// Whose cryptography: auto (graviola where the processor can, otherwise rustcrypto), graviola or rustcrypto
    /// [default: auto]
    #[arg(long, value_name = "WHOSE")]
    pub(crate) tls_provider: Option<String>,
    /// How to say who we are: plain, scram-sha-256, scram-sha-512 or oauthbearer [default: not at all]
    #[arg(long, value_name = "MECHANISM")]
    pub(crate) sasl: Option<String>,
    /// User for SASL
    #[arg(long, value_name = "NAME")]
    pub(crate) sasl_user: Option<String>,
    /// File with the user's password, read again for each connection; or the password itself in LONGSHORE_SASL_PASSWORD
    #[arg(long, value_name = "PATH")]
    pub(crate) sasl_password_file: Option<String>,
    /// File with a token for oauthbearer, read again for each connection; or the token itself in LONGSHORE_SASL_TOKEN
    #[arg(long, value_name = "PATH")]
    pub(crate) sasl_token_file: Option<String>,
    /// Let plain and oauthbearer send password and token without TLS, for anybody on the way to read
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) allow_secrets_in_plaintext: Option<String>,
    /// Properties file of a Java client, such as client.properties, for what is said nowhere else
    #[arg(long, value_name = "PATH")]
    pub(crate) kafka_config: Option<String>,
}

/// Reads all of it but `--kafka-config`, which is a layer by itself.
pub(super) fn read(from: &mut Reading<'_>, args: &SecurityArgs) -> SecuritySettings {
    let no_check = args.tls_no_server_name_check.as_ref();
    let tls = TlsSettings {
        ca: pem(from, args.tls_ca.as_ref(), "tls-ca"),
        cert: pem(from, args.tls_cert.as_ref(), "tls-cert"),
        key: pem(from, args.tls_key.as_ref(), "tls-key"),
        key_password: secret(from, args.tls_key_password_file.as_ref(), "tls-key-password"),
        server_name: from.layers.value(args.tls_server_name.as_ref(), "tls-server-name").map(|value| value.text),
        no_server_name_check: from.get(no_check, "tls-no-server-name-check", yes_or_no).unwrap_or(false),
        provider: from.get(args.tls_provider.as_ref(), "tls-provider", provider).unwrap_or_default(),
    };
    let allow = args.allow_secrets_in_plaintext.as_ref();
    SecuritySettings {
        protocol: from.get(args.security.as_ref(), "security", protocol).unwrap_or_default(),
        tls,
        sasl: from.get(args.sasl.as_ref(), "sasl", mechanism).flatten(),
        sasl_user: from.layers.value(args.sasl_user.as_ref(), "sasl-user").map(|value| value.text),
        sasl_password: secret(from, args.sasl_password_file.as_ref(), "sasl-password"),
        sasl_token: secret(from, args.sasl_token_file.as_ref(), "sasl-token"),
        allow_secrets_in_plaintext: from.get(allow, "allow-secrets-in-plaintext", yes_or_no).unwrap_or(false),
    }
}

fn file(value: Value) -> Source {
    Source::File(value.text.into())
}

fn inline(value: Value) -> Source {
    Source::Inline(Secret::new(value.text))
}

/// A file, or the PEM itself, which may stand in the properties file.
fn pem(from: &Reading<'_>, typed: Option<&String>, flag: &str) -> Option<Source> {
    let path = from.layers.value(typed, flag).map(file);
    path.or_else(|| from.layers.property(&format!("{flag}-pem")).map(inline))
}

/// `--NAME-file`, or the secret itself in `LONGSHORE_NAME`: whichever comes from the nearer layer.
fn secret(from: &mut Reading<'_>, typed: Option<&String>, name: &str) -> Option<Source> {
    let path = from.layers.value(typed, &format!("{name}-file"));
    let itself = from.layers.value(None, name);
    match (path, itself) {
        (Some(path), Some(itself)) if path.layer == itself.layer => {
            from.errors.push(format!("{} and {} contradict each other", path.name(), itself.name()));
            None
        }
        (Some(path), Some(itself)) if path.layer > itself.layer => Some(inline(itself)),
        (Some(path), _) => Some(file(path)),
        (None, itself) => itself.map(inline),
    }
}

fn protocol(text: &str) -> Result<Protocol, &'static str> {
    match text {
        "plaintext" => Ok(Protocol::Plaintext),
        "tls" => Ok(Protocol::Tls),
        _ => Err("neither plaintext nor tls"),
    }
}

fn provider(text: &str) -> Result<TlsProvider, &'static str> {
    match text {
        "auto" => Ok(TlsProvider::Auto),
        "graviola" => Ok(TlsProvider::Graviola),
        "rustcrypto" => Ok(TlsProvider::Rustcrypto),
        _ => Err("none of auto, graviola, rustcrypto"),
    }
}

fn mechanism(text: &str) -> Result<Option<Mechanism>, &'static str> {
    if text == "none" {
        return Ok(None);
    }
    let known = Mechanism::ALL.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(text));
    known.map(Some).ok_or("none of plain, scram-sha-256, scram-sha-512, oauthbearer, none")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::layers::Layers;

    #[track_caller]
    fn read_with(args: SecurityArgs, layers: &Layers) -> (SecuritySettings, Vec<String>) {
        let mut from = Reading { layers, errors: Vec::new() };
        let settings = read(&mut from, &args);
        (settings, from.errors)
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    const PROPERTIES: &str = "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\n\
        sasl.jaas.config=a.PlainLoginModule required username=\"bob\" password=\"of the file\";\n\
        ssl.truststore.location=/file.pem\nssl.keystore.key=KEY\nssl.keystore.certificate.chain=CERT\n";

    #[test]
    fn flags_before_environment_before_properties() {
        let layers =
            Layers::of(&[("LONGSHORE_SASL_USER", "carol"), ("LONGSHORE_TLS_CA", "/env.pem")], &[]).and(PROPERTIES);
        let typed = SecurityArgs { sasl: text("scram-sha-256"), tls_ca: text("/typed.pem"), ..SecurityArgs::default() };
        let (settings, errors) = read_with(typed, &layers);
        assert_eq!(errors, [""; 0]);
        assert_eq!((settings.protocol, settings.sasl), (Protocol::Tls, Some(Mechanism::ScramSha256)));
        assert_eq!(settings.sasl_user.as_deref(), Some("carol"));
        assert_eq!(settings.tls.ca, Some(Source::File("/typed.pem".into())));
        assert_eq!(settings.sasl_password, Some(Source::Inline(Secret::new("of the file"))));
        assert_eq!(settings.tls.key, Some(Source::Inline(Secret::new("KEY"))));
    }

    #[test]
    fn a_secret_comes_from_the_nearer_layer() {
        let password = |typed: Option<&str>, env: &[(&str, &str)], file: &[(&str, &str)], properties: &str| {
            let args = SecurityArgs { sasl_password_file: typed.map(str::to_owned), ..SecurityArgs::default() };
            read_with(args, &Layers::of(env, file).and(properties))
        };
        let env = [("LONGSHORE_SASL_PASSWORD", "of the environment")];
        let inline = |text: &str| Some(Source::Inline(Secret::new(text)));
        assert_eq!(password(Some("/p"), &env, &[], "").0.sasl_password, Some(Source::File("/p".into())));
        assert_eq!(password(None, &env, &[], PROPERTIES).0.sasl_password, inline("of the environment"));
        assert_eq!(password(None, &[], &env, PROPERTIES).0.sasl_password, inline("of the environment"));
        let file = [("LONGSHORE_SASL_PASSWORD_FILE", "/p")];
        assert_eq!(password(None, &env, &file, "").0.sasl_password, inline("of the environment"));
        let both = [env[0], file[0]];
        let contradiction = "LONGSHORE_SASL_PASSWORD_FILE and LONGSHORE_SASL_PASSWORD contradict each other";
        assert_eq!(password(None, &both, &[], "").1, [contradiction]);
    }

    #[test]
    fn nothing_that_was_read_shows_a_secret() {
        let env = [("LONGSHORE_SASL_PASSWORD", "hunter2"), ("LONGSHORE_TLS_KEY_PASSWORD", "hunter2")];
        let layers = Layers::of(&env, &env).and(&PROPERTIES.replace("of the file", "hunter2"));
        let (settings, _) = read_with(SecurityArgs::default(), &layers);
        let value = layers.value(None, "sasl-password");
        let shown = format!("{settings:?} {layers:?} {value:?}");
        assert!(shown.contains("sasl_password: Some") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn wrong_words_are_named() {
        let args = SecurityArgs {
            security: text("ssl"),
            sasl: text("gssapi"),
            tls_provider: text("ring"),
            ..SecurityArgs::default()
        };
        let (_, errors) = read_with(args, &Layers::default());
        assert_eq!(
            errors,
            [
                "--tls-provider 'ring': none of auto, graviola, rustcrypto",
                "--security 'ssl': neither plaintext nor tls",
                "--sasl 'gssapi': none of plain, scram-sha-256, scram-sha-512, oauthbearer, none",
            ]
        );
    }
}
