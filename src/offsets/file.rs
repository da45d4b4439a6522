//! `--offsets file:PATH`: a file of our own, for where the broker is not to keep them.
//!
//! Two lines: what this is with the CRC-32C of the second, and a JSON object. It is written beside its place, synced, and
//! renamed, so that a crash or a full disk leaves the old one whole. What does not match its checksum is refused: to
//! begin anew because of a damaged file would be a silent jump.
//!
//! A file of version 1 has one topic, and is read as well; what is written is version 2. Topics of the file that are not
//! ours stay in it as they are.
//!
//! A lock on `PATH.lock` keeps a second process out for as long as the first lives.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{Commits, Committed, Former, OffsetStore, StoreError};
use crate::record::{LeaderEpoch, Offset, TopicId};

use crate::gather::Gather;

const MAGIC: &str = "longshore-offsets 2 crc32c=";
const MAGIC_1: &str = "longshore-offsets 1 crc32c=";

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
    #[error("the offset file {path} is of group {group}, topic {topics}: name another file")]
    OtherGroup {
        /// Which.
        path: String,
        /// Its group.
        group: String,
        /// Its topics.
        topics: String,
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
    /// What the file held, of topics of the same names with other ids.
    former: BTreeMap<String, Former>,
    /// Held for its lock.
    _lock: File,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    group: String,
    topics: BTreeMap<String, OfTopic>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OfTopic {
    topic_id: String,
    partitions: BTreeMap<i32, Kept>,
}

/// The content of version 1.
#[derive(Deserialize)]
struct Content1 {
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
    /// The file is damaged, of another group, of none of these topics, or in use by another process.
    pub fn open(path: &Path, group: &str, topics: &BTreeMap<Arc<str>, TopicId>) -> Result<Self, OpenError> {
        let shown = path.display().to_string();
        let lock_path = beside(path, ".lock");
        let failed = |source| OpenError::Io { path: lock_path.display().to_string(), source };
        let lock = File::create(&lock_path).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::InUse { path: shown.clone() },
            TryLockError::Error(source) => failed(source),
        })?;
        let nothing = |id: &TopicId| OfTopic { topic_id: id.to_string(), partitions: BTreeMap::new() };
        let ours = topics.iter().map(|(topic, id)| (topic.to_string(), nothing(id)));
        let ours = Content { group: group.to_owned(), topics: ours.gather() };
        let (content, former) = match fs::read(path) {
            Ok(bytes) => {
                ours.adopt(parse(&bytes).map_err(|why| OpenError::Damaged { path: shown.clone(), why })?, shown)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (ours, BTreeMap::new()),
            Err(source) => return Err(OpenError::Io { path: shown, source }),
        };
        Ok(Self { path: path.to_owned(), content, former, _lock: lock })
    }

    /// What the file held when it was opened, if that was of another topic with this name: its id, and the offsets.
    #[must_use]
    pub fn former(&self, topic: &str) -> Option<Former> {
        self.former.get(topic).cloned()
    }
}

impl Content {
    /// Takes over what the file holds, if it is of our group and of one of our topics at least; and gives what it was of,
    /// where only the id is another.
    fn adopt(mut self, file: Self, path: String) -> Result<(Self, BTreeMap<String, Former>), OpenError> {
        let is_ours = file.topics.keys().any(|topic| self.topics.contains_key(topic));
        if file.group != self.group || !is_ours {
            let topics: Vec<_> = file.topics.into_keys().collect();
            return Err(OpenError::OtherGroup { path, group: file.group, topics: topics.join(", ") });
        }
        let mut former = BTreeMap::new();
        for (topic, theirs) in file.topics {
            match self.topics.get(&topic) {
                Some(ours) if ours.topic_id != theirs.topic_id => {
                    let Ok(was) = theirs.topic_id.parse() else {
                        return Err(OpenError::Damaged { path, why: "its topic id is none".to_owned() });
                    };
                    let kept = theirs.partitions.into_iter().map(|(partition, kept)| (partition, Offset(kept.offset)));
                    former.insert(topic, (TopicId(was), kept.gather()));
                }
                _ => _ = self.topics.insert(topic, theirs),
            }
        }
        Ok((self, former))
    }
}

impl OffsetStore for FileOffsets {
    async fn load(&mut self, partitions: &BTreeMap<Arc<str>, Vec<i32>>) -> Result<Commits, StoreError> {
        let committed = |kept: &Kept| Committed {
            offset: Offset(kept.offset),
            leader_epoch: LeaderEpoch(kept.leader_epoch),
            metadata: kept.metadata.clone(),
        };
        let of_topic = |(topic, partitions): (&Arc<str>, &Vec<i32>)| {
            let kept = &self.content.topics.get(&**topic)?.partitions;
            let of = |partition: &i32| Some((*partition, committed(kept.get(partition)?)));
            Some((Arc::clone(topic), partitions.iter().filter_map(of).gather()))
        };
        Ok(partitions.iter().filter_map(of_topic).gather())
    }

    fn renew(&mut self, topic: &str, id: TopicId) {
        let nothing = OfTopic { topic_id: id.to_string(), partitions: BTreeMap::new() };
        self.content.topics.insert(topic.to_owned(), nothing);
    }

    async fn commit(&mut self, commits: &Commits) -> Result<(), StoreError> {
        for (topic, commits) in commits {
            let of_topic = self.content.topics.get_mut(&**topic).expect("the file was opened for this topic");
            for (partition, Committed { offset, leader_epoch, metadata }) in commits {
                let kept = Kept { offset: offset.0, leader_epoch: leader_epoch.0, metadata: metadata.clone() };
                of_topic.partitions.insert(*partition, kept);
            }
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
    let old = head.strip_prefix(MAGIC_1);
    let checksum = old.or_else(|| head.strip_prefix(MAGIC)).ok_or("it does not begin as one")?;
    if checksum != format!("{:08x}", crc32c::crc32c(body.as_bytes())) {
        return Err("its checksum does not match".to_owned());
    }
    if old.is_none() {
        return serde_json::from_str(body).map_err(|error| error.to_string());
    }
    let file: Content1 = serde_json::from_str(body).map_err(|error| error.to_string())?;
    let of_topic = OfTopic { topic_id: file.topic_id, partitions: file.partitions };
    Ok(Content { group: file.group, topics: [(file.topic, of_topic)].into() })
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
        open_for(path, &[("t", ID)])
    }

    fn open_for(path: &Path, topics: &[(&str, TopicId)]) -> Result<FileOffsets, OpenError> {
        FileOffsets::open(path, "g", &topics.iter().map(|(topic, id)| ((*topic).into(), *id)).collect())
    }

    fn at(offset: i64) -> Commits {
        of("t", offset)
    }

    fn of(topic: &str, offset: i64) -> Commits {
        let committed = Committed { offset: Offset(offset), leader_epoch: LeaderEpoch(1), metadata: "m".to_owned() };
        [(topic.into(), [(0, committed)].into())].into()
    }

    /// What is kept for partitions 0 and 1 of these topics, where anything is.
    async fn load(store: &mut FileOffsets, topics: &[&str]) -> Commits {
        let partitions = topics.iter().map(|topic| ((*topic).into(), vec![0, 1])).collect();
        let mut kept = store.load(&partitions).await.unwrap();
        kept.retain(|_, kept| !kept.is_empty());
        kept
    }

    #[tokio::test]
    async fn what_was_committed_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("offsets");
        open(&path).unwrap().commit(&at(5)).await.unwrap();
        assert_eq!(load(&mut open(&path).unwrap(), &["t"]).await, at(5));
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
        assert_eq!(load(&mut open(&path).unwrap(), &["t"]).await, at(5));
        fs::remove_file(beside(&path, ".new")).unwrap();
        let mut store = open(&path).unwrap();
        store.commit(&at(9)).await.unwrap();
        assert_eq!(load(&mut store, &["t"]).await, at(9));
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
        let mut anew = open_for(&path, &[("t", other)]).unwrap();
        assert_eq!(anew.former("t"), Some((ID, [(0, Offset(5))].into())));
        assert!(load(&mut anew, &["t"]).await.is_empty());
        drop(anew);
        assert_eq!(
            load(&mut open(&path).unwrap(), &["t"]).await,
            at(5),
            "nothing is overwritten before the first commit"
        );
        let error = open_for(&path, &[("u", ID)]).unwrap_err();
        assert!(error.to_string().contains("of group g, topic t: name another file"), "{error}");
    }

    #[tokio::test]
    async fn topics_have_offsets_of_their_own_and_those_of_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("offsets");
        let (two, other) = (TopicId(uuid::Uuid::from_u128(8)), TopicId(uuid::Uuid::from_u128(9)));
        open(&path).unwrap().commit(&at(5)).await.unwrap();
        let mut both = open_for(&path, &[("t", ID), ("u", two)]).unwrap();
        both.commit(&of("u", 7)).await.unwrap();
        assert_eq!(load(&mut both, &["t", "u"]).await, [of("t", 5), of("u", 7)].into_iter().flatten().collect());
        both.renew("t", other);
        both.commit(&at(1)).await.unwrap();
        drop(both);
        let mut one = open_for(&path, &[("u", two)]).unwrap();
        assert_eq!(load(&mut one, &["u"]).await, of("u", 7));
        one.commit(&of("u", 8)).await.unwrap();
        drop(one);
        let mut both = open_for(&path, &[("t", other), ("u", two)]).unwrap();
        assert_eq!(load(&mut both, &["t", "u"]).await, [of("t", 1), of("u", 8)].into_iter().flatten().collect());
    }

    #[tokio::test]
    async fn a_file_of_version_1_is_read_and_made_into_one_of_version_2() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("offsets");
        let body = format!(
            r#"{{"group":"g","topic":"t","topic_id":"{ID}","partitions":{{"0":{{"offset":5,"leader_epoch":1,"metadata":"m"}}}}}}"#
        );
        let checksum = crc32c::crc32c(body.as_bytes());
        fs::write(&path, format!("longshore-offsets 1 crc32c={checksum:08x}\n{body}\n")).unwrap();
        let mut store = open(&path).unwrap();
        assert_eq!(load(&mut store, &["t"]).await, at(5));
        store.commit(&at(6)).await.unwrap();
        drop(store);
        assert!(fs::read_to_string(&path).unwrap().starts_with(MAGIC));
        assert_eq!(load(&mut open(&path).unwrap(), &["t"]).await, at(6));
        fs::write(&path, format!("longshore-offsets 1 crc32c={checksum:08x}\n{}\n", body.replace('5', "7"))).unwrap();
        assert!(matches!(open(&path), Err(OpenError::Damaged { .. })));
    }
}
