//! `longshore inspect`.

use longshore::{error::exit, inspect::inspect as look};

use super::refuse;
use crate::cli::{args::InspectArgs, inspect, layers::Layers, logging::Logging};

const HELP: &str = "longshore inspect --help";

/// Looks at a group, and tells how it stands.
///
/// # Errors
/// What has nothing to do with Kafka, such as a standard output that is gone.
pub(crate) async fn inspect(args: InspectArgs) -> anyhow::Result<u8> {
    let layers = Layers::load(args.env_file.as_ref());
    let layers = match layers.and_then(|layers| layers.with_kafka_config(args.security.kafka_config.as_ref())) {
        Ok(layers) => layers,
        Err(error) => return Ok(refuse(&[error], HELP)),
    };
    let connection = match inspect::read(&args, &layers) {
        Ok(connection) => connection,
        Err(errors) => return Ok(refuse(&errors.0, HELP)),
    };
    Logging::default().start();
    for warning in layers.warnings() {
        tracing::warn!("{warning}");
    }
    match look(&connection, &args.topic).await {
        Ok(report) => {
            inspect::write(&mut std::io::stdout().lock(), &report, args.json)?;
            Ok(exit::OK)
        }
        Err(error) => {
            tracing::error!("{error}");
            Ok(exit::UNAVAILABLE)
        }
    }
}
