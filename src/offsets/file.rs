//! `--offsets file:PATH`: a file of our own, for where the broker is not to keep them.
//!
//! Two lines: what this is with the CRC-32C of the second, and a JSON object. It is written beside its place, synced, and
//! renamed, so that a crash or a full disk leaves the old one whole. What does not match its checksum is refused: to
//! begin anew because of a damaged file would be a silent jump.
//!
//! A lock on `PATH.lock` keeps a second process out for as long as the first lives.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Committed, Former, OffsetStore, StoreError};
use crate::record::{LeaderEpoch, Offset, TopicId};

const MAGIC: &str = "longshore-offsets 1 crc32c=";

/// Why an offset file is not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// To go on from anywhere would be a guess.
    #[error("the offset file {path} is damaged: {why}. Put it right, or delete it to begin where --from says")]
    Damaged {
        /// Which.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// Its offsets are somebody else's.
    #[error("the offset file {path} is of group {group}, topic {topic}: name another file")]
    OtherGroup {
        /// Which.
        path: String,
        /// Its group.
        group: String,
        /// Its topic.
        topic: String,
    },
    /// Another process has it.
    #[error("the offset file {path} is in use by another process")]
    InUse {
        /// Which.
        path: String,
    },
    /// The system says no.
    #[error("cannot open the offset file {path}")]
    Io {
        /// The file that could not be read, created or locked.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

/// Keeps offsets in a file.
#[derive(Debug)]
pub struct FileOffsets {
    path: PathBuf,
    content: Content,
    /// What the file held, if it was of a topic of the same name with another id.
    former: Option<Former>,
    /// Held for its lock.
    _lock: File,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    group: String,
    topic: String,
    topic_id: String,
    partitions: BTreeMap<i32, Kept>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    offset: i64,
    leader_epoch: i32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    metadata: String,
}

impl FileOffsets {
    /// Opens the file at `path`, or begins it at the first commit: also where its offsets are of a topic of the same name
    /// with another id, in which they mean nothing.
    ///
    /// # Errors
    /// The file is damaged, of another group or another topic's name, or in use by another process.
    pub fn open(path: &Path, group: &str, topic: &str, id: TopicId) -> Result<Self, OpenError> {
        let shown = path.display().to_string();
        let lock_path = beside(path, ".lock");
        let failed = |source| OpenError::Io { path: lock_path.display().to_string(), source };
        let lock = File::create(&lock_path).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::InUse { path: shown.clone() },
            TryLockError::Error(source) => failed(source),
        })?;
        let ours = Content {
            group: group.to_owned(),
            topic: topic.to_owned(),
            topic_id: id.to_string(),
            partitions: [].into(),
        };
        let (content, former) = match fs::read(path) {
            Ok(bytes) => {
                ours.adopt(parse(&bytes).map_err(|why| OpenError::Damaged { path: shown.clone(), why })?, shown)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (ours, None),
            Err(source) => return Err(OpenError::Io { path: shown, source }),
        };
        Ok(Self { path: path.to_owned(), content, former, _lock: lock })
    }

    /// What the file held when it was opened, if that was of another topic with the same name: its id, and the offsets.
    #[must_use]
    pub fn former(&self) -> Option<Former> {
        self.former.clone()
    }
}

impl Content {
    /// Takes over what the file holds, if it is of our group and topic; or gives what it was of, if only the id is another.
    fn adopt(self, file: Self, path: String) -> Result<(Self, Option<Former>), OpenError> {
        if (&file.group, &file.topic) != (&self.group, &self.topic) {
            return Err(OpenError::OtherGroup { path, group: file.group, topic: file.topic });
        }
        if file.topic_id == self.topic_id {
            return Ok((file, None));
        }
        let Ok(was) = file.topic_id.parse() else {
            return Err(OpenError::Damaged { path, why: "its topic id is none".to_owned() });
        };
        let kept = file.partitions.into_iter().map(|(partition, kept)| (partition, Offset(kept.offset)));
        Ok((self, Some((TopicId(was), kept.collect()))))
    }
}

impl OffsetStore for FileOffsets {
    async fn load(&mut self, partitions: &[i32]) -> Result<BTreeMap<i32, Committed>, StoreError> {
        let committed = |kept: &Kept| Committed {
            offset: Offset(kept.offset),
            leader_epoch: LeaderEpoch(kept.leader_epoch),
            metadata: kept.metadata.clone(),
        };
        let kept = &self.content.partitions;
        Ok(partitions.iter().filter_map(|partition| Some((*partition, committed(kept.get(partition)?)))).collect())
    }

    fn renew(&mut self, id: TopicId) {
        self.content.topic_id = id.to_string();
        self.content.partitions.clear();
    }

    async fn commit(&mut self, commits: &BTreeMap<i32, Committed>) -> Result<(), StoreError> {
        for (partition, Committed { offset, leader_epoch, metadata }) in commits {
            let kept = Kept { offset: offset.0, leader_epoch: leader_epoch.0, metadata: metadata.clone() };
            self.content.partitions.insert(*partition, kept);
        }
        let (path, text) = (self.path.clone(), render(&self.content));
        let written = tokio::task::spawn_blocking(move || replace(&path, &text)).await;
        written.map_err(io::Error::other).flatten().map_err(|error| StoreError::Unavailable {
            reason: format!("cannot write the offset file {}: {error}", self.path.display()),
        })
    }
}

fn render(content: &Content) -> String {
    let body = serde_json::to_string(content).expect("strings and numbers are JSON");
    format!("{MAGIC}{:08x}\n{body}\n", crc32c::crc32c(body.as_bytes()))
}

fn parse(bytes: &[u8]) -> Result<Content, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
    let (head, body) = text.split_once('\n').ok_or("it has no second line")?;
    let body = body.strip_suffix('\n').ok_or("its last line has no end")?;
    let checksum = head.strip_prefix(MAGIC).ok_or("it does not begin as one")?;
    if checksum != format!("{:08x}", crc32c::crc32c(body.as_bytes())) {
        return Err("its checksum does not match".to_owned());
    }
    serde_json::from_str(body).map_err(|error| error.to_string())
}

/// Puts `text` in the place of the file at `path`, whole or not at all.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = beside(path, ".new");
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TopicId = TopicId(uuid::Uuid::from_u128(7));

    fn open(path: &Path) -> Result<FileOffsets, OpenError> {
        FileOffsets::open(path, "g", "t", ID)
    }

    fn at(offset: i64) -> BTreeMap<i32, Committed> {
        [(0, Committed { offset: Offset(offset), leader_epoch: LeaderEpoch(1), metadata: "m".to_owned() })].into()
    }

    #[tokio::test]
    async fn what_was_committed_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("offsets");
        open(&path).unwrap().commit(&at(5)).await.unwrap();
        assert_eq!(open(&path).unwrap().load(&[0, 1]).await.unwrap(), at(5));
    }

    #[tokio::test]
    async fn any_torn_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("offsets");
        open(&path).unwrap().commit(&at(5)).await.unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(matches!(open(&path), Err(OpenError::Damaged { .. })), "cut to {length} bytes");
        }
    }

    #[tokio::test]
    async fn a_full_disk_leaves_the_old_file_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("offsets");
        let mut store = open(&path).unwrap();
        store.commit(&at(5)).await.unwrap();
        std::os::unix::fs::symlink("/dev/full", beside(&path, ".new")).unwrap();
        assert!(matches!(store.commit(&at(9)).await, Err(StoreError::Unavailable { .. })));
        drop(store);
        assert_eq!(open(&path).unwrap().load(&[0]).await.unwrap(), at(5));
        fs::remove_file(beside(&path, ".new")).unwrap();
        let mut store = open(&path).unwrap();
        store.commit(&at(9)).await.unwrap();
        assert_eq!(store.load(&[0]).await.unwrap(), at(9));
    }

    #[tokio::test]
    async fn one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("offsets");
        let first = open(&path).unwrap();
        let second = open(&path).unwrap_err();
        assert!(second.to_string().contains("in use by another process"), "{second}");
        drop(first);
        open(&path).unwrap();
    }

    #[tokio::test]
    async fn another_topic_of_the_name_is_another_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("offsets");
        open(&path).unwrap().commit(&at(5)).await.unwrap();
        let other = TopicId(uuid::Uuid::from_u128(8));
        let mut anew = FileOffsets::open(&path, "g", "t", other).unwrap();
        assert_eq!(anew.former(), Some((ID, [(0, Offset(5))].into())));
        assert!(anew.load(&[0]).await.unwrap().is_empty());
        drop(anew);
        assert_eq!(
            open(&path).unwrap().load(&[0]).await.unwrap(),
            at(5),
            "nothing is overwritten before the first commit"
        );
        let error = FileOffsets::open(&path, "g", "u", ID).unwrap_err();
        assert!(error.to_string().contains("name another file"), "{error}");
    }
}
