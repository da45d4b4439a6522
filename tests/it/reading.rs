//! What a topic may hold besides plain records, and by which reader it is read.

use longshore::record::{Header, Outgoing};

use crate::harness::{DEAD, IN, Kafka, REPLIES, json, plain};

/// A record batch of format 2 with these values; `gzip` compresses it. The broker sets where it lies.
fn batch(values: &[&str], gzip: bool) -> Vec<u8> {
    let mut content = Vec::new();
    for (at, value) in values.iter().enumerate() {
        // Lengths and deltas here are below 64: one byte each, doubled by zigzag.
        let mut record = vec![0, 0, 2 * at as u8, 1, 2 * value.len() as u8];
        record.extend_from_slice(value.as_bytes());
        record.push(0);
        content.push(2 * record.len() as u8);
        content.extend(record);
    }
    if gzip {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, &content).unwrap();
        content = encoder.finish().unwrap();
    }
    let mut behind_crc = Vec::new();
    behind_crc.extend(i16::from(gzip).to_be_bytes());
    behind_crc.extend((values.len() as i32 - 1).to_be_bytes());
    behind_crc.extend([1_700_000_000_000_i64, 1_700_000_000_000, -1].map(i64::to_be_bytes).concat());
    behind_crc.extend((-1_i16).to_be_bytes());
    behind_crc.extend([-1, values.len() as i32].map(i32::to_be_bytes).concat());
    behind_crc.extend(content);
    let mut batch = vec![0; 8];
    batch.extend((9 + behind_crc.len() as i32).to_be_bytes());
    batch.extend([0, 0, 0, 0, 2]);
    batch.extend(crc32c::crc32c(&behind_crc).to_be_bytes());
    batch.extend(behind_crc);
    batch
}

fn damaged(values: &[&str]) -> Vec<u8> {
    let mut batch = batch(values, false);
    *batch.last_mut().unwrap() ^= 1;
    batch
}

#[test]
fn each_reader_does_the_whole_job() {
    for reader in ["auto", "rskafka", "wire"] {
        let kafka = Kafka::start(3);
        for partition in 0..3 {
            kafka.put(partition, plain(200));
        }
        kafka.longshore(&format!("--until-end --reader {reader}")).end().exits(0).counts("received 600, replied 600");
        kafka.all_answered_once();
        assert_eq!(kafka.kept(2), Some(200), "{reader}");
    }
}

#[test]
fn a_compressed_batch_is_read_and_the_log_says_once_by_what() {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(2));
    for _ in 0..3 {
        kafka.append_raw(IN, 0, batch(&["{}", "17"], true)).unwrap();
    }
    kafka.put(0, plain(1));
    let end = kafka.longshore("--until-end").end().exits(0).counts("received 9, replied 9");
    assert_eq!(end.log.matches("reading by wire from here on").count(), 1, "{}", end.log);
    kafka.all_answered_once();
}

#[test]
fn rskafka_alone_says_that_it_cannot_read_on() {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(2));
    kafka.append_raw(IN, 0, batch(&["{}"], true)).unwrap();
    let end = kafka.longshore("--reader rskafka").end().exits(69).counts("received 2, replied 2");
    assert!(end.log.contains("orders-0") && end.log.contains("offset 2"), "{}", end.log);
    assert_eq!(kafka.kept(0), Some(2), "what lies before it is done");
}

#[test]
fn a_batch_that_cannot_be_read_is_set_aside_with_its_bytes_and_stops_nobody() {
    for reader in ["auto", "wire"] {
        let kafka = Kafka::start(1);
        kafka.put(0, ["{}"]);
        let bytes = damaged(&["{}", "{}", "{}"]);
        kafka.append_raw(IN, 0, bytes.clone()).unwrap();
        kafka.put(0, ["{}"]);
        let end = kafka.longshore(&format!("--until-end --reader {reader} --dead-letter-topic dead")).end().exits(0);
        let end = end.counts("received 3, succeeded 2, malformed 1, dead_lettered 1, replied 2, failure_replies 1");
        assert_eq!(kafka.kept(0), Some(5));
        let [letter] = &kafka.read(DEAD)[..] else { panic!("one dead letter") };
        assert_eq!(letter.value.as_ref().unwrap()[16..], bytes[16..], "from where the broker changes nothing");
        let header = |name| letter.header(name).map(|value| String::from_utf8_lossy(value).into_owned());
        assert_eq!(header("__dlq.errors.offset").as_deref(), Some("1"));
        assert_eq!(header("longshore.last.offset").as_deref(), Some("3"));
        assert!(header("__dlq.errors.message").unwrap().contains("checksum"));
        assert!(end.log.contains("malformed") && end.log.contains("checksum"), "{}", end.log);
        let mut statuses: Vec<_> = kafka.read(REPLIES).iter().map(|reply| json(reply)["status"].to_string()).collect();
        statuses.sort();
        assert_eq!(statuses, ["\"malformed\"", "\"ok\"", "\"ok\""]);
    }
}

#[test]
fn a_damaged_batch_of_which_nobody_is_told_stops_the_run() {
    let kafka = Kafka::start(1);
    kafka.append_raw(IN, 0, damaged(&["{}"])).unwrap();
    let end = kafka.longshore("--until-end --no-reply --on-failure stop").end().exits(1);
    assert!(end.log.contains("checksum"), "{}", end.log);
    assert_eq!(kafka.kept(0).unwrap_or(0), 0, "nothing is skipped");
    kafka.longshore("--until-end --no-reply --on-failure drop").end().exits(0).counts("dropped 1");
    assert_eq!(kafka.kept(0), Some(1));
}

#[test]
fn headers_are_exact_in_a_dead_letter() {
    let kafka = Kafka::start(1);
    let headers = vec![
        Header::new("b", "1"),
        Header::new("a", "2"),
        Header::new("b", "3"),
        Header { name: (&b"\xff"[..]).into(), value: None },
    ];
    kafka.put_record(Outgoing { key: None, value: Some("{oops".into()), headers: headers.clone().into() });
    kafka.longshore("--until-end --dead-letter-topic dead").end().exits(0).counts("dead_lettered 1");
    assert_eq!(kafka.read(DEAD)[0].headers[..4], headers);
}

#[test]
fn a_dead_letter_too_large_comes_in_parts() {
    let kafka = Kafka::start(1);
    let value: Vec<u8> = (0..60_000_u32).flat_map(u32::to_le_bytes).collect();
    kafka.put_record(Outgoing {
        key: Some("k".into()),
        value: Some(value.clone().into()),
        headers: Default::default(),
    });
    kafka
        .faults()
        .next(longshore::broker::ApiKey::Produce)
        .topic(DEAD)
        .error(longshore::broker::ResponseError::MessageTooLarge);
    kafka.longshore("--until-end --dead-letter-topic dead").end().exits(0).counts("malformed 1, dead_lettered 1");
    let parts = kafka.read(DEAD);
    assert_eq!(parts.iter().flat_map(|part| part.value.clone().unwrap()).collect::<Vec<_>>(), value);
    let numbers: Vec<_> =
        parts.iter().map(|part| String::from_utf8_lossy(part.header("longshore.part").unwrap()).into_owned()).collect();
    assert_eq!(numbers, ["1", "2", "3", "4"]);
}

#[test]
fn a_reader_that_cannot_do_what_is_asked_is_refused() {
    let kafka = Kafka::start(1);
    let end = kafka.longshore("--reader rskafka --isolation read_committed").end().exits(64);
    assert!(end.log.contains("--isolation read_committed needs wire"), "{}", end.log);
    let end = kafka.longshore("--reader fast --isolation some").end().exits(64);
    assert!(end.log.contains("one of auto, rskafka, wire") && end.log.contains("read_uncommitted or"), "{}", end.log);
}
