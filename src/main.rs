//! Arguments, logging, signals, exit code; nothing else.

mod cli;

use std::{
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use cli::{
    args::{self, Args, Command},
    commands,
};
use longshore::error::exit;

fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => {
            // Where standard error is gone, there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    quiet_task_panics();
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(4);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let code = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        // A fault of our own has told of itself by now, through the panic hook.
        let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(dispatch(args))));
        let code = ended.unwrap_or(Ok(exit::SOFTWARE));
        // Threads that still run a task end with the process.
        runtime.shutdown_background();
        code
    });
    ExitCode::from(code.unwrap_or_else(|error| {
        // Where standard error is gone, there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "longshore: {error:#}");
        exit::SOFTWARE
    }))
}

async fn dispatch(args: Args) -> anyhow::Result<u8> {
    match args.command {
        Command::Run(args) => Box::pin(commands::run(*args)).await,
        Command::Inspect(args) => Box::pin(commands::inspect(*args)).await,
        #[cfg(feature = "broker")]
        Command::Demo(args) => Box::pin(commands::demo(args)).await,
        #[cfg(feature = "broker")]
        Command::Broker(args) => Box::pin(commands::broker(args)).await,
    }
}

/// A task that panics is told of in the log, with its message's coordinates; a backtrace beside that says nothing more.
fn quiet_task_panics() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !longshore::pool::in_task() {
            others(panic);
        }
    }));
}
