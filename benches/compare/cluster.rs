//! The real Kafka of a benchmark and its topics, by the project's script and the helper in Go.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::output_of;

const MESSAGE_BYTES: &str = "256";
const PARTITIONS: &str = "4";

/// Where everything that this benchmark builds and writes goes.
pub(crate) fn work_dir(root: &Path) -> PathBuf {
    root.join("target/compare")
}

/// Builds the Go programs: the helper and franz-go, which also warms the broker up.
///
/// # Errors
///
/// Go is missing, or it cannot build them.
pub(crate) fn build_helpers(root: &Path) -> Result<()> {
    fs::create_dir_all(work_dir(root).join("logs"))?;
    eprintln!("building the Go programs");
    let mut go = Command::new("go");
    go.current_dir(root.join("benches/peers/franz-go"))
        .args(["build", "-o"])
        .arg(work_dir(root).join("go/"))
        .args([".", "./fill"]);
    output_of(&mut go).context("Go (1.26 or newer) is needed for the references")?;
    Ok(())
}

/// A Kafka that lives as long as this value: the script also watches this process, should it be killed.
pub(crate) struct Cluster {
    pub(crate) address: String,
    script: PathBuf,
    dir: PathBuf,
    work_dir: PathBuf,
    filled: RefCell<BTreeSet<String>>,
}

impl Cluster {
    /// Starts a fresh one. Its heap is what Kafka's own scripts take.
    ///
    /// # Errors
    ///
    /// Whatever the script says.
    pub(crate) fn start(root: &Path) -> Result<Self> {
        let mut cluster = Self {
            address: String::new(),
            script: root.join("tests/kafka/kafka"),
            dir: root.join("target/kafka/bench"),
            work_dir: work_dir(root),
            filled: RefCell::default(),
        };
        eprintln!("starting Kafka");
        cluster.script("clean")?;
        cluster.address = cluster.script("start")?;
        Ok(cluster)
    }

    fn script(&self, what: &str) -> Result<String> {
        let mut script = Command::new(&self.script);
        script.env("KAFKA_OWNER", std::process::id().to_string()).env("KAFKA_HEAP", "1g").arg(what).arg(&self.dir);
        output_of(&mut script)
    }

    pub(crate) fn version(&self) -> String {
        let version = fs::read_to_string(self.dir.join("version"));
        version.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
    }

    /// Where a run's output goes; an extension is added.
    pub(crate) fn log_of(&self, run: &str) -> PathBuf {
        self.work_dir.join("logs").join(run)
    }

    fn helper(&self, what: &str, topic: &str, more: &[&str]) -> Result<String> {
        let mut fill = Command::new(self.work_dir.join("go/fill"));
        fill.arg(what).args(["--brokers", &self.address, "--topic", topic]).args(more);
        output_of(&mut fill).with_context(|| format!("cannot {what} {topic}"))
    }

    fn number(&self, what: &str, topic: &str, more: &[&str]) -> Result<u64> {
        Ok(self.helper(what, topic, more)?.parse()?)
    }

    pub(crate) fn create_topic(&self, topic: &str) -> Result<()> {
        self.helper("create", topic, &["--partitions", PARTITIONS])?;
        Ok(())
    }

    pub(crate) fn delete_topic(&self, topic: &str) -> Result<()> {
        self.helper("delete", topic, &[])?;
        Ok(())
    }

    /// The topic that holds this many messages; made and filled when first asked for.
    pub(crate) fn filled_topic(&self, messages: u64) -> Result<String> {
        self.filled_topic_in(messages, "none")
    }

    /// The same, compressed by this codec: none or lz4.
    pub(crate) fn filled_topic_in(&self, messages: u64, codec: &str) -> Result<String> {
        let topic = match codec {
            "none" => format!("messages-{messages}"),
            _ => format!("messages-{messages}-{codec}"),
        };
        if self.filled.borrow_mut().insert(topic.clone()) {
            eprintln!("filling {topic}");
            self.create_topic(&topic)?;
            let count = messages.to_string();
            self.helper("fill", &topic, &["--messages", &count, "--bytes", MESSAGE_BYTES, "--codec", codec])?;
        }
        Ok(topic)
    }

    /// The class path of this Kafka's own tools.
    pub(crate) fn class_path(&self) -> String {
        let libs = env::var("KAFKA_HOME_LIBS")
            .map_or_else(|_| self.dir.with_file_name(format!("libs-{}", self.version())), PathBuf::from);
        format!("{}/*", libs.display())
    }

    /// The sum of the end offsets: how many records were ever written.
    pub(crate) fn end_offsets(&self, topic: &str) -> Result<u64> {
        self.number("ends", topic, &[])
    }

    /// The sum of what the group has committed.
    pub(crate) fn committed(&self, group: &str, topic: &str) -> Result<u64> {
        self.number("committed", topic, &["--group", group])
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.script("clean") {
            eprintln!("compare: Kafka may still run: {error:#}");
        }
    }
}
