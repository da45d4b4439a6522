//! Where a setting comes from: what was typed, then the environment, then the `.env` file.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

/// Nearer layers come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layer {
    Typed,
    Environment,
    File,
}

/// A setting that was given somewhere.
#[derive(Debug, Clone)]
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

/// The environment and the `.env` file.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    environment: HashMap<String, String>,
    file: HashMap<String, String>,
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
        Ok(Self { environment, file })
    }

    #[cfg(test)]
    pub(crate) fn of(environment: &[(&str, &str)], file: &[(&str, &str)]) -> Self {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Self { environment: map(environment), file: map(file) }
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
        None
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
    let wrong = |error: dotenvy::Error| format!("--env-file {}: {error}", path.display());
    dotenvy::from_path_iter(path).map_err(wrong)?.map(|line| line.map_err(wrong)).collect()
}
