//! What is to be done for each message, as it was typed.

use std::time::Duration;

use longshore::task::{Exec, Sleep};

use super::{Reading, args::RunArgs, duration, layers::Value};

/// The kinds of tasks (`--task`).
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Sleep(Sleep),
    Exec(Exec),
}

/// Reads what is to be done. What is wrong with it is noted, and of what is given back then nothing comes.
pub(super) fn read(from: &mut Reading<'_>, args: &RunArgs) -> Kind {
    let is_exec = from.get(args.task.as_ref(), "task", |task| match task {
        "sleep" => Ok(false),
        "exec" => Ok(true),
        _ => Err("neither sleep nor exec"),
    });
    let time = from.get(args.task_time.as_ref(), "task-time", duration).unwrap_or(Duration::from_secs(5));
    let timeout = from.get(args.task_timeout.as_ref(), "task-timeout", |text| match duration(text)? {
        Duration::ZERO => Err("no time would kill every process at once".to_owned()),
        timeout => Ok(timeout),
    });
    let names = from.layers.value(args.exec_env.as_ref(), "exec-env");
    let headers = from.layers.value(args.exec_header.as_ref(), "exec-header");
    let sleep = Kind::Sleep(Sleep::new(time));
    if is_exec != Some(true) {
        if !args.command.is_empty() {
            from.errors.push("a command behind -- is for --task exec".to_owned());
        }
        if timeout.is_some() {
            from.errors
                .push("--task-timeout is for --task exec: a task that is no process cannot be killed".to_owned());
        }
        return sleep;
    }
    match Exec::new(&args.command, &list(names), timeout) {
        Ok(exec) => Kind::Exec(exec.with_headers(list(headers))),
        Err(error) => {
            from.errors.push(format!("--task exec {error}"));
            sleep
        }
    }
}

/// The parts of a list with commas.
fn list(value: Option<Value>) -> Vec<String> {
    let text = value.map(|value| value.text).unwrap_or_default();
    text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}
