//! Runs one contender and watches it from outside: how long it may take, its peak memory and its CPU time.
//!
//! Memory is VmHWM, asked for every few milliseconds while the process lives. The rusage that a parent gets
//! counts the parent's own memory up to the exec, which is more than the whole of a small contender.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often the process is looked at. What it grows by in its last such span is missed.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The unit of CPU time in `/proc/PID/stat`: USER_HZ, which is 100 on every Linux that Kafka runs on.
const TICK_MS: u64 = 10;

/// A process that ended with exit code 0.
pub(crate) struct Finished {
    pub(crate) stdout: String,
    pub(crate) peak_kb: u64,
    pub(crate) cpu_ms: u64,
}

/// Kills and reaps the process when the one who waits for it gives up.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both fail only for a process that has been waited for already, which is the usual case.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs it to its end, at most for `deadline`. What it says goes to `log` with `.out` or `.err` added.
///
/// # Errors
///
/// It cannot be started, it takes too long and is killed, or it fails; then with the end of its stderr.
pub(crate) fn run(mut command: Command, log: &Path, deadline: Duration) -> Result<Finished> {
    let (out, err) = (log.with_extension("out"), log.with_extension("err"));
    let program = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::null())
        .stdout(File::create(&out).with_context(|| format!("cannot write {}", out.display()))?)
        .stderr(File::create(&err)?);
    let child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    let mut child = Reaped(child);
    let pid = child.0.id();
    let end = Instant::now() + deadline;
    let (mut peak_kb, mut cpu_ms) = (0, 0);
    let status = loop {
        peak_kb = peak_kb.max(memory_kb(pid, "VmHWM:").unwrap_or(0));
        cpu_ms = cpu_ms.max(cpu_time_ms(pid).unwrap_or(0));
        if let Some(status) = child.0.try_wait()? {
            break status;
        }
        if Instant::now() >= end {
            bail!("not done within {deadline:?}; see {}", err.display());
        }
        std::thread::sleep(LOOK_EVERY);
    };
    if !status.success() {
        bail!("{status}; {}", last_line(&err));
    }
    let stdout = fs::read_to_string(&out)?;
    Ok(Finished { stdout, peak_kb, cpu_ms })
}

/// Lets it run for `time`, kills it, and returns the resident memory that it had then, in kB.
///
/// # Errors
///
/// It cannot be started, or it does not live for that long.
pub(crate) fn resident_after(mut command: Command, log: &Path, time: Duration) -> Result<u64> {
    let err = log.with_extension("err");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&err)?);
    let mut child = Reaped(command.spawn()?);
    let end = Instant::now() + time;
    while Instant::now() < end {
        if let Some(status) = child.0.try_wait()? {
            bail!("it ended early: {status}; {}", last_line(&err));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    memory_kb(child.0.id(), "VmRSS:").context("it has no /proc/PID/status")
}

/// A command's standard output, trimmed.
///
/// # Errors
///
/// It cannot be started or it fails; then with its standard error.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {program}; is it installed?"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program}: {}: {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn memory_kb(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time: the 14th and 15th field, counted after the name, which may hold spaces.
fn cpu_time_ms(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * TICK_MS)
}

fn last_line(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or("it said nothing").to_owned()
}
