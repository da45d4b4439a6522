//! The subcommands: each runs to its end and gives the exit code.

#[cfg(feature = "broker")]
mod broker;
#[cfg(feature = "broker")]
mod demo;
mod inspect;
mod run;

use std::io::Write;

#[cfg(feature = "broker")]
pub(crate) use self::{broker::broker, demo::demo};
pub(crate) use self::{inspect::inspect, run::run};
use longshore::Drain;
use longshore::error::exit;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Says what is wrong with the configuration, all of it.
fn refuse(errors: &[String], help: &str) -> u8 {
    let mut err = std::io::stderr().lock();
    let many = if errors.len() == 1 { "error" } else { "errors" };
    // Where standard error is gone, there is nobody to tell.
    let _ = writeln!(err, "longshore: {} {many} in the configuration:", errors.len());
    for error in errors {
        let _ = writeln!(err, "  - {error}");
    }
    let _ = writeln!(err, "See '{help}'.");
    exit::USAGE
}

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// The first signal drains, the second ends the process at once.
async fn drain_on_signal(mut signals: Signals, drain: Drain) {
    let name = signals.next().await;
    tracing::info!("{name}: draining; once more ends it at once");
    drain.drain();
    let name = signals.next().await;
    tracing::error!("{name} again: ended at once, what ran is unfinished and runs again next time");
    longshore::task::exec::kill_all();
    std::process::exit(i32::from(exit::FORCED));
}
