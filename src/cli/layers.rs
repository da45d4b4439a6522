//! Where a setting comes from: what was typed, then the environment, then the `.env` file, then `--kafka-config`.
//!
//! There are passwords among the values, so neither these layers nor a value show them in `Debug`.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
};

use longshore::secret::Source;

use super::kafka_config::KafkaConfig;

/// Nearer layers come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layer {
    Typed,
    Environment,
    File,
    KafkaConfig,
}

/// A setting that was given somewhere.
#[derive(Clone)]
pub(crate) struct Value {
    pub(crate) text: String,
    pub(crate) layer: Layer,
    given_as: String,
}

impl Value {
    /// How whoever gave it wrote its name.
    pub(crate) fn name(&self) -> &str {
        &self.given_as
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value").field("given_as", &self.given_as).finish_non_exhaustive()
    }
}

/// The environment, the `.env` file and the properties file.
#[derive(Default)]
pub(crate) struct Layers {
    environment: HashMap<String, String>,
    file: HashMap<String, String>,
    kafka_config: KafkaConfig,
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layers").finish_non_exhaustive()
    }
}

impl Layers {
    /// Reads both. `env_file` is `--env-file`, which has to be there; without it `.env` in the working directory is read
    /// if it is there.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn load(env_file: Option<&String>) -> Result<Self, String> {
        let environment: HashMap<_, _> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let named = env_file.or_else(|| environment.get("LONGSHORE_ENV_FILE").filter(|path| !path.is_empty()));
        let path = named.map_or_else(|| PathBuf::from(".env"), PathBuf::from);
        let file = if named.is_some() || path.exists() { read(&path)? } else { HashMap::new() };
        Ok(Self { environment, file, kafka_config: KafkaConfig::default() })
    }

    /// Puts the properties file of `--kafka-config` behind them, if one is named.
    ///
    /// # Errors
    /// The file cannot be read. What is wrong in it is told later, with all the rest.
    pub(crate) fn with_kafka_config(mut self, typed: Option<&String>) -> Result<Self, String> {
        if let Some(path) = self.value(typed, "kafka-config") {
            let text = Source::File(PathBuf::from(&path.text)).read();
            let text = text.map_err(|error| format!("{}: {error}", path.name()))?;
            self.kafka_config = KafkaConfig::parse(text.expose());
            let named = |said: &mut String| *said = format!("{}: {said}", path.text);
            self.kafka_config.errors.iter_mut().for_each(named);
            self.kafka_config.warnings.iter_mut().for_each(named);
        }
        Ok(self)
    }

    /// What is wrong in the properties file.
    pub(crate) fn errors(&self) -> &[String] {
        &self.kafka_config.errors
    }

    /// What is odd in the properties file.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.kafka_config.warnings
    }

    #[cfg(test)]
    pub(crate) fn of(environment: &[(&str, &str)], file: &[(&str, &str)]) -> Self {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Self { environment: map(environment), file: map(file), kafka_config: KafkaConfig::default() }
    }

    #[cfg(test)]
    pub(crate) fn and(self, properties: &str) -> Self {
        Self { kafka_config: KafkaConfig::parse(properties), ..self }
    }

    /// The value of `--flag`, from the nearest layer that has one. In the environment and the file it goes by
    /// `LONGSHORE_FLAG`, or else by its [older name](older_name). An empty variable counts as not set.
    pub(crate) fn value(&self, typed: Option<&String>, flag: &str) -> Option<Value> {
        if let Some(text) = typed {
            return Some(Value { text: text.clone(), layer: Layer::Typed, given_as: format!("--{flag}") });
        }
        let own_name = environment_name(flag);
        for (layer, variables) in [(Layer::Environment, &self.environment), (Layer::File, &self.file)] {
            for name in [Some(own_name.as_str()), older_name(flag)].into_iter().flatten() {
                if let Some(text) = variables.get(name).filter(|text| !text.is_empty()) {
                    return Some(Value { text: text.clone(), layer, given_as: name.to_owned() });
                }
            }
        }
        self.property(flag)
    }

    /// The value of a setting in the properties file alone: for what has no flag.
    pub(crate) fn property(&self, flag: &str) -> Option<Value> {
        let (property, value) = self.kafka_config.settings.get(flag)?;
        let text = value.expose().to_owned();
        Some(Value { text, layer: Layer::KafkaConfig, given_as: property.clone() })
    }
}

/// Names of settings that were there before Longshore, and stay: the old service's, and the one that Rust programs share.
const OLDER_NAMES: [(&str, &str); 6] = [
    ("brokers", "KAFKA_SERVER"),
    ("group", "KAFKA_CONSUMER_GROUP"),
    ("topic", "KAFKA_TOPIC_NAME"),
    ("reply-topic", "KAFKA_REPLY_TOPIC"),
    ("dead-letter-topic", "KAFKA_DEAD_LETTER_TOPIC"),
    ("log-level", "RUST_LOG"),
];

/// The name by which a flag's variable was known before.
pub(crate) fn older_name(flag: &str) -> Option<&'static str> {
    OLDER_NAMES.iter().find(|(known, _)| *known == flag).map(|(_, older)| *older)
}

/// The name of a flag in the environment: `--task-time` is `LONGSHORE_TASK_TIME`.
pub(crate) fn environment_name(flag: &str) -> String {
    format!("LONGSHORE_{}", flag.replace('-', "_").to_ascii_uppercase())
}

fn read(path: &Path) -> Result<HashMap<String, String>, String> {
    let mut last = None;
    let mut read = HashMap::new();
    for pair in dotenvy::from_path_iter(path).map_err(|error| unread(path, &error, None))? {
        let (name, value) = pair.map_err(|error| unread(path, &error, last.as_deref()))?;
        last = Some(name.clone());
        read.insert(name, value);
    }
    Ok(read)
}

/// Why a file cannot be read. dotenvy would show the value of the line that it cannot read, which may be a password.
fn unread(path: &Path, error: &dotenvy::Error, last: Option<&str>) -> String {
    let path = path.display();
    match error {
        dotenvy::Error::LineParse(..) => {
            let place = last.map_or_else(|| "the first line".to_owned(), |name| format!("the line after {name}"));
            format!("--env-file {path}: {place} is not NAME=VALUE; a value with blanks in it has to be in quotes")
        }
        error => format!("--env-file {path}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_in_a_file_shows_no_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trial.env");
        std::fs::write(&path, "KAFKA_SERVER=k\nLONGSHORE_SASL_PASSWORD=hunter2 and more\n").unwrap();
        let error = Layers::load(Some(&path.display().to_string())).unwrap_err();
        assert!(
            error.contains("the line after KAFKA_SERVER is not NAME=VALUE") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
