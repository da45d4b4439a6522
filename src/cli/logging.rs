//! The log, on standard error.

use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use super::{args::RunArgs, layers::Layers};

/// How the log is written (`--log-format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// What is logged, and how.
#[derive(Debug)]
pub(crate) struct Logging {
    targets: Targets,
    format: LogFormat,
}

impl Default for Logging {
    fn default() -> Self {
        Self { targets: targets("info").expect("a level"), format: LogFormat::Text }
    }
}

impl Logging {
    /// Reads `--log-level` and `--log-format`.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub(crate) fn read(args: &RunArgs, layers: &Layers) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let mut logging = Self::default();
        if let Some(level) = layers.value(args.log_level.as_ref(), "log-level") {
            match targets(&level.text) {
                Ok(targets) => logging.targets = targets,
                Err(error) => errors.push(format!("{} '{}': {error}", level.name(), level.text.escape_debug())),
            }
        }
        if let Some(format) = layers.value(args.log_format.as_ref(), "log-format") {
            match format.text.as_str() {
                "text" => logging.format = LogFormat::Text,
                "json" => logging.format = LogFormat::Json,
                _ => errors.push(format!("{} '{}': neither text nor json", format.name(), format.text.escape_debug())),
            }
        }
        if errors.is_empty() { Ok(logging) } else { Err(errors) }
    }

    /// Starts to log.
    pub(crate) fn start(self) {
        let registry = tracing_subscriber::registry().with(self.targets);
        let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        match self.format {
            LogFormat::Text => {
                let colours =
                    std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
                registry.with(layer.with_ansi(colours).with_target(false)).init();
            }
            LogFormat::Json => registry.with(layer.json().flatten_event(true)).init(),
        }
    }
}

/// A level alone is Longshore's; the crates below it are then to warn only.
fn targets(text: &str) -> Result<Targets, &'static str> {
    const WRONG: &str = "none of off, error, warn, info, debug, trace, nor targets such as info,rskafka=debug";
    match text.parse::<LevelFilter>() {
        Ok(level) => Ok(Targets::new()
            .with_default(level.min(LevelFilter::WARN))
            // It calls an error what is our normal life; what matters of it, we say.
            .with_target("rskafka", LevelFilter::OFF)
            .with_target("longshore", level)),
        // A word alone would be taken for a target's name.
        Err(_) if !text.contains('=') => Err(WRONG),
        Err(_) => text.parse().map_err(|_| WRONG),
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_level_is_longshores_own() {
        let debug = targets("debug").unwrap();
        assert!(debug.would_enable("longshore::engine", &Level::DEBUG));
        assert!(debug.would_enable("tokio", &Level::WARN));
        assert!(!debug.would_enable("tokio", &Level::INFO));
        assert!(!debug.would_enable("rskafka::client", &Level::ERROR));
        assert!(!targets("off").unwrap().would_enable("tokio", &Level::ERROR));
        assert!(targets("info,rskafka=debug").unwrap().would_enable("rskafka::client", &Level::DEBUG));
        assert!(targets("loud").is_err());
    }
}
