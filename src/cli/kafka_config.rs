//! PURE: what a Java client's properties file (`--kafka-config`) means for us: settings, by the names of our flags.
//!
//! ```text
//!  text ──properties──▶ pairs ──┬─▶ settings: the layer behind the .env file
//!                               ├─▶ a warning that names what is not used here
//!                               └─▶ errors: what would change security or meaning, and is not supported
//! ```
//!
//! What Java's clients would not look at, such as `sasl.mechanism` without SASL in `security.protocol`, we do not look at
//! either, and say so.

mod jaas;
mod properties;

use std::collections::BTreeMap;

use longshore::{config::Mechanism, secret::Secret};

/// What a properties file says.
#[derive(Debug, Default)]
pub(crate) struct KafkaConfig {
    /// By flag: the property that says it, and its value.
    pub(crate) settings: BTreeMap<&'static str, (String, Secret)>,
    pub(crate) warnings: Vec<String>,
    pub(crate) errors: Vec<String>,
}

/// Properties whose values mean for us what they say.
const SAME: [(&str, &str); 7] = [
    ("bootstrap.servers", "brokers"),
    ("group.id", "group"),
    ("isolation.level", "isolation"),
    ("ssl.truststore.location", "tls-ca"),
    ("ssl.truststore.certificates", "tls-ca-pem"),
    ("ssl.keystore.certificate.chain", "tls-cert-pem"),
    ("ssl.keystore.key", "tls-key-pem"),
];

/// Properties that would change who is trusted, who can listen, or what is read, and what to do without them.
const UNSUPPORTED: [(&str, &str); 12] = [
    (
        "config.providers",
        "values that are looked up elsewhere, such as ${file:...}, are not: write them out, or use flags",
    ),
    ("interceptor.classes", "Java classes cannot be run here"),
    ("sasl.client.callback.handler.class", "Java classes cannot be run here"),
    ("sasl.login.class", "Java classes cannot be run here"),
    ("sasl.oauthbearer.client.credentials.client.id", TOKEN),
    ("sasl.oauthbearer.client.credentials.client.secret", TOKEN),
    ("sasl.oauthbearer.assertion.claim.iss", TOKEN),
    ("security.providers", "Java classes cannot be run here"),
    ("ssl.cipher.suites", "the ciphers cannot be chosen: those of TLS 1.3 and the good ones of TLS 1.2 are used"),
    ("ssl.engine.factory.class", "Java classes cannot be run here"),
    ("ssl.provider", "Java classes cannot be run here; --tls-provider has a choice"),
    ("ssl.trustmanager.algorithm", "certificates are checked by PKIX, as rustls does it"),
];

const TOKEN: &str = "tokens are not fetched: have them put into a file, and name that with --sasl-token-file";

impl KafkaConfig {
    /// Reads a properties file.
    pub(crate) fn parse(text: &str) -> Self {
        let mut config = Self::default();
        let mut pairs: BTreeMap<String, Secret> = match properties::parse(text) {
            Ok(pairs) => pairs.into_iter().map(|(key, value)| (key, Secret::new(value))).collect(),
            Err(error) => {
                config.errors.push(error);
                return config;
            }
        };
        let (tls, sasl) = config.protocol(&mut pairs);
        config.drop_idle(&mut pairs, tls, sasl);
        if sasl {
            config.sasl(&mut pairs);
        }
        if tls {
            config.tls(&mut pairs);
        }
        for (property, flag) in SAME {
            config.take(&mut pairs, property, flag);
        }
        config.begin(&mut pairs);
        for (property, reason) in UNSUPPORTED {
            if pairs.remove(property).is_some() {
                config.errors.push(format!("{property} is not supported: {reason}"));
            }
        }
        if !pairs.is_empty() {
            let names: Vec<_> = pairs.into_keys().collect();
            config.warnings.push(format!("not used here: {}", names.join(", ")));
        }
        config
    }

    fn set(&mut self, flag: &'static str, property: &str, value: impl Into<String>) {
        self.settings.insert(flag, (property.to_owned(), Secret::new(value)));
    }

    /// Passes a property on as it is. An empty one counts as not set.
    fn take(&mut self, pairs: &mut BTreeMap<String, Secret>, property: &str, flag: &'static str) {
        if let Some(value) = pairs.remove(property).filter(|value| !value.expose().is_empty()) {
            self.set(flag, property, value.expose());
        }
    }

    /// Whether there is TLS and whether there is SASL.
    fn protocol(&mut self, pairs: &mut BTreeMap<String, Secret>) -> (bool, bool) {
        const NAME: &str = "security.protocol";
        let Some(value) = pairs.remove(NAME) else { return (false, false) };
        let (tls, sasl) = match value.expose().trim().to_ascii_uppercase().as_str() {
            "PLAINTEXT" => (false, false),
            "SSL" => (true, false),
            "SASL_PLAINTEXT" => (false, true),
            "SASL_SSL" => (true, true),
            other => {
                let other = other.escape_debug();
                self.errors.push(format!("{NAME} '{other}': none of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"));
                return (false, false);
            }
        };
        self.set("security", NAME, if tls { "tls" } else { "plaintext" });
        (tls, sasl)
    }

    /// What Java's clients do not look at with this `security.protocol`.
    fn drop_idle(&mut self, pairs: &mut BTreeMap<String, Secret>, tls: bool, sasl: bool) {
        let idle = |key: &String| (!tls && key.starts_with("ssl.")) || (!sasl && key.starts_with("sasl."));
        let names: Vec<_> = pairs.keys().filter(|key| idle(key)).cloned().collect();
        pairs.retain(|key, _| !idle(key));
        if !names.is_empty() {
            self.warnings.push(format!("without effect with this security.protocol: {}", names.join(", ")));
        }
    }

    fn sasl(&mut self, pairs: &mut BTreeMap<String, Secret>) {
        const NAME: &str = "sasl.mechanism";
        let named = pairs.remove(NAME).map_or_else(|| "GSSAPI".to_owned(), |value| value.expose().trim().to_owned());
        let Some(mechanism) = Mechanism::ALL.into_iter().find(|mechanism| mechanism.name() == named) else {
            let known = Mechanism::ALL.map(Mechanism::name).join(", ");
            self.errors.push(format!(
                "{NAME} {} (Java's default is GSSAPI) is not supported: {known} are",
                named.escape_debug()
            ));
            pairs.remove("sasl.jaas.config");
            return;
        };
        self.set("sasl", NAME, named.to_ascii_lowercase());
        if let Some(text) = pairs.remove("sasl.jaas.config") {
            match jaas::parse(text.expose()) {
                Ok(login) => self.login(mechanism, login),
                Err(error) => self.errors.push(format!("sasl.jaas.config: {error}")),
            }
        }
        if mechanism == Mechanism::OAuthBearer {
            self.token(pairs);
        }
    }

    fn login(&mut self, mechanism: Mechanism, login: jaas::Login) {
        const NAME: &str = "sasl.jaas.config";
        let jaas::Login { module, mut options } = login;
        let fits = match mechanism {
            Mechanism::Plain => "PlainLoginModule",
            Mechanism::ScramSha256 | Mechanism::ScramSha512 => "ScramLoginModule",
            Mechanism::OAuthBearer => "OAuthBearerLoginModule",
        };
        if module != fits {
            self.errors.push(format!("{NAME} has {module}, and {mechanism} goes with {fits}"));
            return;
        }
        if mechanism != Mechanism::OAuthBearer {
            for (option, flag) in [("username", "sasl-user"), ("password", "sasl-password")] {
                match options.remove(option) {
                    Some(value) => self.set(flag, NAME, value.expose()),
                    None => self.errors.push(format!("{NAME} has no {option}")),
                }
            }
        }
        for option in options.into_keys() {
            let reason = if mechanism == Mechanism::OAuthBearer { TOKEN } else { "leave it away" };
            self.errors.push(format!("{NAME}: option {option} is not supported: {reason}"));
        }
    }

    /// A token that is in a file by Java's ways, too (KIP-768).
    fn token(&mut self, pairs: &mut BTreeMap<String, Secret>) {
        const URL: &str = "sasl.oauthbearer.token.endpoint.url";
        const HANDLER: &str = "sasl.login.callback.handler.class";
        const RETRIEVER: &str = "sasl.oauthbearer.jwt.retriever.class";
        if let Some(url) = pairs.remove(URL) {
            match url.expose().strip_prefix("file:") {
                Some(path) => self.set("sasl-token-file", URL, path.strip_prefix("//").unwrap_or(path)),
                None => self.errors.push(format!("{URL} is not supported but for file: URLs: {TOKEN}")),
            }
        }
        for (property, known) in [(HANDLER, "OAuthBearerLoginCallbackHandler"), (RETRIEVER, "FileJwtRetriever")] {
            if let Some(class) = pairs.remove(property)
                && class.expose().rsplit('.').next() != Some(known)
            {
                self.errors.push(format!("{property} is not supported but for {known}: {TOKEN}"));
            }
        }
    }

    fn tls(&mut self, pairs: &mut BTreeMap<String, Secret>) {
        const CHECK: &str = "ssl.endpoint.identification.algorithm";
        match pairs.remove(CHECK).as_ref().map(|value| value.expose().trim().to_ascii_lowercase()).as_deref() {
            None | Some("https") => {}
            Some("") => self.set("tls-no-server-name-check", CHECK, "true"),
            Some(_) => self.errors.push(format!("{CHECK} has to be https, or empty for no check of names")),
        }
        self.versions(pairs);
        let keystore = pairs.remove("ssl.keystore.location").filter(|path| !path.expose().is_empty());
        if let Some(path) = keystore {
            if pairs.contains_key("ssl.keystore.key") || pairs.contains_key("ssl.keystore.certificate.chain") {
                self.errors.push("ssl.keystore.location and ssl.keystore.key contradict each other".to_owned());
            }
            // A keystore in PEM has both in one file.
            self.set("tls-cert", "ssl.keystore.location", path.expose());
            self.set("tls-key", "ssl.keystore.location", path.expose());
        }
        if pairs.contains_key("ssl.truststore.location") && pairs.contains_key("ssl.truststore.certificates") {
            self.errors
                .push("ssl.truststore.location and ssl.truststore.certificates contradict each other".to_owned());
        }
        self.take(pairs, "ssl.key.password", "tls-key-password");
        for store in ["ssl.truststore.type", "ssl.keystore.type"] {
            // What a file is shows when it is read; Java's own formats are told then, with how to convert them.
            if let Some(kind) = pairs.remove(store)
                && !["PEM", "JKS", "PKCS12"].contains(&kind.expose().trim())
            {
                self.errors.push(format!("{store} is not supported but for PEM"));
            }
        }
        // PEM files have no passwords of their own, and those of other formats are of no use to us.
        pairs.remove("ssl.truststore.password");
        pairs.remove("ssl.keystore.password");
    }

    /// TLS 1.2 and 1.3 are spoken. To leave out 1.3 harms nobody; to leave out 1.2 is a wish that is not fulfilled.
    fn versions(&mut self, pairs: &mut BTreeMap<String, Secret>) {
        for property in ["ssl.protocol", "ssl.enabled.protocols"] {
            let Some(value) = pairs.remove(property) else { continue };
            let mut versions = value.expose().split(',').map(str::trim);
            if !versions.any(|version| version.is_empty() || version == "TLS" || version == "TLSv1.2")
                && property != "ssl.protocol"
            {
                self.errors.push(format!("{property} without TLSv1.2 is not supported: TLS 1.2 and 1.3 are spoken"));
            }
        }
    }

    fn begin(&mut self, pairs: &mut BTreeMap<String, Secret>) {
        const NAME: &str = "auto.offset.reset";
        match pairs.remove(NAME).as_ref().map(|value| value.expose().trim()) {
            None => {}
            Some(begin @ ("earliest" | "latest")) => self.set("from", NAME, begin),
            Some("none") => self.set("from", NAME, "stop"),
            Some(_) => self.errors.push(format!("{NAME} is none of earliest, latest, none")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SASL_SSL: &str = r#"
        bootstrap.servers=a:9093,b:9093
        security.protocol=SASL_SSL
        sasl.mechanism=SCRAM-SHA-512
        sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
            username="alice" \
            password="alice-\\"secret\\"";
        ssl.truststore.type=PEM
        ssl.truststore.location=/etc/kafka/ca.pem
        ssl.truststore.password=changeit
        ssl.endpoint.identification.algorithm=
        group.id=g
        client.id=c
        request.timeout.ms=1000
    "#;

    fn settings(config: &KafkaConfig) -> Vec<(&str, &str)> {
        config.settings.iter().map(|(flag, (_, value))| (*flag, value.expose())).collect()
    }

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let config = KafkaConfig::parse(text);
        assert_eq!((config.errors.clone(), config.warnings.clone()), (vec![], vec![]), "{text}");
        assert_eq!(settings(&config), expected, "{text}");
    }

    #[track_caller]
    fn check_errors(text: &str, expected: &[&str]) {
        let errors = KafkaConfig::parse(text).errors;
        assert_eq!(errors.len(), expected.len(), "{errors:#?}");
        for (error, expected) in errors.iter().zip(expected) {
            assert!(error.contains(expected), "{error:?} does not say {expected:?}");
        }
    }

    #[test]
    fn a_file_as_people_have_it() {
        let config = KafkaConfig::parse(SASL_SSL);
        assert_eq!(config.errors, [""; 0]);
        assert_eq!(config.warnings, ["not used here: client.id, request.timeout.ms"]);
        let expected = [
            ("brokers", "a:9093,b:9093"),
            ("group", "g"),
            ("sasl", "scram-sha-512"),
            ("sasl-password", "alice-\"secret\""),
            ("sasl-user", "alice"),
            ("security", "tls"),
            ("tls-ca", "/etc/kafka/ca.pem"),
            ("tls-no-server-name-check", "true"),
        ];
        assert_eq!(settings(&config), expected);
        assert!(!format!("{config:?}").contains("alice"), "{config:?}");
    }

    #[test]
    fn all_four_protocols() {
        check("security.protocol=PLAINTEXT", &[("security", "plaintext")]);
        check("security.protocol=SSL", &[("security", "tls")]);
        let sasl = "sasl.mechanism=PLAIN\nsasl.jaas.config=a.PlainLoginModule required username=u password=p;\n";
        let user = [("sasl", "plain"), ("sasl-password", "p"), ("sasl-user", "u")];
        check(&format!("{sasl}security.protocol=SASL_PLAINTEXT"), &[&user[..], &[("security", "plaintext")]].concat());
        check(&format!("{sasl}security.protocol=sasl_ssl"), &[&user[..], &[("security", "tls")]].concat());
        check_errors("security.protocol=TLS", &["none of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"]);
    }

    #[test]
    fn stores_in_pem_in_files_and_inline() {
        let inline = "security.protocol=SSL\nssl.keystore.type=PEM\nssl.keystore.key=K\nssl.key.password=p\n\
                      ssl.keystore.certificate.chain=C\nssl.truststore.certificates=T\n";
        check(
            inline,
            &[
                ("security", "tls"),
                ("tls-ca-pem", "T"),
                ("tls-cert-pem", "C"),
                ("tls-key-password", "p"),
                ("tls-key-pem", "K"),
            ],
        );
        let file = "security.protocol=SSL\nssl.keystore.location=/k.pem\n";
        check(file, &[("security", "tls"), ("tls-cert", "/k.pem"), ("tls-key", "/k.pem")]);
        check_errors(&format!("{inline}ssl.keystore.location=/k.pem"), &["contradict each other"]);
    }

    #[test]
    fn a_token_in_a_file() {
        let text = "security.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER\n\
                    sasl.jaas.config=a.OAuthBearerLoginModule required ;\n\
                    sasl.login.callback.handler.class=org.apache.kafka.x.OAuthBearerLoginCallbackHandler\n\
                    sasl.oauthbearer.token.endpoint.url=";
        let expected = [("sasl", "oauthbearer"), ("sasl-token-file", "/run/token"), ("security", "tls")];
        check(&format!("{text}file:///run/token"), &expected);
        check(&format!("{text}file:/run/token"), &expected);
        check_errors(&format!("{text}https://idp/token"), &["tokens are not fetched"]);
        let unsecured = text.replace("required ;", "required unsecuredLoginStringClaim_sub=alice;");
        check_errors(
            &format!("{unsecured}file:/t"),
            &["option unsecuredLoginStringClaim_sub is not supported: tokens"],
        );
    }

    #[test]
    fn what_has_no_effect_or_no_support_is_named() {
        let idle = KafkaConfig::parse("sasl.mechanism=PLAIN\nssl.truststore.location=/x\n");
        assert_eq!(
            idle.warnings,
            ["without effect with this security.protocol: sasl.mechanism, ssl.truststore.location"]
        );
        assert!(idle.settings.is_empty() && idle.errors.is_empty());
        check_errors(
            "security.protocol=SSL\nssl.cipher.suites=x\nssl.engine.factory.class=y\nconfig.providers=file\n\
             ssl.enabled.protocols=TLSv1.3\nssl.endpoint.identification.algorithm=none",
            &["identification", "ssl.enabled.protocols without TLSv1.2", "${file:", "ssl.cipher.suites", "ssl.engine"],
        );
        check_errors(
            "security.protocol=SASL_SSL",
            &["sasl.mechanism GSSAPI (Java's default is GSSAPI) is not supported"],
        );
        check_errors(
            "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.jaas.config=a.ScramLoginModule required;",
            &["has ScramLoginModule, and PLAIN goes with PlainLoginModule"],
        );
    }

    #[test]
    fn where_to_begin() {
        check("auto.offset.reset=none", &[("from", "stop")]);
        check("auto.offset.reset=latest", &[("from", "latest")]);
        check_errors("auto.offset.reset=by_duration:PT1H", &["none of earliest, latest, none"]);
    }
}
