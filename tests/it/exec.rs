//! `--task exec`: a process for each message, from its standard input to the answer, and to its end.

use std::{fs, time::Instant};

use crate::harness::{Kafka, Longshore, REPLIES, Signal, scratch};

const SH: [&str; 3] = ["--", "sh", "-c"];

fn exec(kafka: &Kafka, flags: &str, script: &str) -> Longshore {
    let run = kafka.longshore(&format!("--task exec {flags}"));
    SH.iter().fold(run, Longshore::arg).arg(script)
}

#[test]
fn a_process_for_each_message_answers_or_fails() {
    let kafka = Kafka::start(1);
    kafka.put(0, ["1", "2", "3", "4"]);
    let script =
        "read n; case $n in 2) echo no such thing >&2; exit 4;; 3) kill -9 $$;; *) echo $((n * 10)):$TOLD;; esac";
    let end = exec(&kafka, "--until-end --dead-letter-topic dead --exec-env TOLD,SECRET", script)
        .env("TOLD", "yes")
        .end()
        .exits(0)
        .counts("succeeded 2, failed 2, malformed 0, replied 2, dead_lettered 2");
    end.says("exit status: 4: no such thing").says("signal: 9").says("task: no such thing");
    let answers: Vec<_> = kafka.read(REPLIES).into_iter().filter_map(|record| record.value).collect();
    assert!(
        [&b"10:yes\n"[..], b"40:yes\n"].iter().all(|said| answers.iter().any(|answer| answer == said)),
        "{answers:?}"
    );
    assert_eq!(kafka.kept(0), Some(4));
}

#[test]
fn a_hang_is_killed_at_its_deadline_and_its_neighbours_go_on() {
    let kafka = Kafka::start(1);
    kafka.put(0, ["60", "0", "0"]);
    exec(&kafka, "--until-end --workers 1 --task-timeout 300ms", "read n; sleep $n")
        .end()
        .exits(0)
        .counts("succeeded 2, failed 1, replied 2, failure_replies 1")
        .says("took longer than 300ms (--task-timeout), and was killed");
    assert_eq!(kafka.kept(0), Some(3));
}

#[test]
fn an_end_that_does_not_wait_leaves_no_process_behind() {
    for signals in [1, 2] {
        let kafka = Kafka::start(1);
        let (_folder, pid) = scratch("pid");
        kafka.put(0, ["1"]);
        let grace = if signals == 1 { "100ms" } else { "1m" };
        let script = format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait", pid.display());
        let run = exec(&kafka, &format!("--grace {grace}"), &script).start();
        kafka.until("the process runs", |_| pid.exists());
        run.signal(Signal::TERM).says("draining: no new task starts");
        if signals == 2 {
            run.signal(Signal::TERM);
        }
        run.end().exits(75);
        let pid = fs::read_to_string(&pid).unwrap();
        let deadline = Instant::now() + std::time::Duration::from_secs(10);
        let lives = |stat: String| !stat.contains(") Z");
        while fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(lives) {
            assert!(Instant::now() < deadline, "{pid} lives");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_command_that_cannot_be_is_refused_before_the_network() {
    for (flags, command, expected) in [
        ("--task exec", &[][..], "--task exec names no command"),
        ("--task exec", &["--", "no-such-program"], "--task exec no-such-program: there is no such program"),
        ("--task sleep", &["--", "sh"], "a command behind -- is for --task exec"),
        ("", &["--", "sh"], "a command behind -- is for --task exec"),
        ("--task-timeout 5s", &[], "--task-timeout is for --task exec"),
        ("--task exec --task-timeout 0", &["--", "sh"], "no time would kill every process"),
    ] {
        let run = Longshore::new(&format!("run -b nowhere:1 -g g -t t {flags}"));
        command.iter().fold(run, Longshore::arg).end().exits(64).says(expected);
    }
}
