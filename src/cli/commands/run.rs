//! `longshore run`.

use longshore::{Longshore, error::exit, kafka::raise_descriptor_limit, task::exec};

use super::{Signals, drain_on_signal, refuse};
use crate::cli::{self, Kind, args::RunArgs, layers::Layers, logging::Logging, report};

const HELP: &str = "longshore run --help";

/// Works off a topic.
///
/// # Errors
/// What has nothing to do with Kafka or the messages, such as a standard output that is gone.
pub(crate) async fn run(args: RunArgs) -> anyhow::Result<u8> {
    let layers = Layers::load(args.env_file.as_ref());
    let layers = match layers.and_then(|layers| layers.with_kafka_config(args.security.kafka_config.as_ref())) {
        Ok(layers) => layers,
        Err(error) => return Ok(refuse(&[error], HELP)),
    };
    let (run, logging) = match (cli::read(&args, &layers), Logging::read(&args, &layers)) {
        (Ok(run), Ok(logging)) => (run, logging),
        (run, logging) => {
            let mut errors = run.err().map_or_else(Vec::new, |errors| errors.0);
            errors.extend(logging.err().into_iter().flatten());
            return Ok(refuse(&errors, HELP));
        }
    };
    logging.start();
    for warning in layers.warnings() {
        tracing::warn!("{warning}");
    }
    let signals = Signals::listen()?;
    // One connection per partition and more: the soft limit is a default for other programs.
    if let Err(error) = raise_descriptor_limit() {
        tracing::debug!(%error, "the limit on open files stays as it is");
    }
    let longshore = match run.task {
        Kind::Sleep(sleep) => Longshore::new(run.config, sleep),
        Kind::Exec(exec) => Longshore::new(run.config, exec),
    };
    tokio::spawn(drain_on_signal(signals, longshore.drain()));
    let ran = longshore.run().await;
    // What was not waited for is not to go on without us: it runs again.
    exec::kill_all();
    let summary = match ran {
        Ok(summary) => summary,
        Err(error) => {
            tracing::error!("{error}");
            return Ok(error.exit_code());
        }
    };
    if let Some(error) = &summary.error {
        tracing::error!("{error}");
    }
    report::write(&mut std::io::stdout().lock(), &summary, run.summary)?;
    Ok(match summary.exit_code() {
        exit::OK if run.fail_on_failure && summary.failed + summary.malformed > 0 => exit::MESSAGE_FAILED,
        code => code,
    })
}
