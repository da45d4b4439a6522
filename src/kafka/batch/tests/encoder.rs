//! Others read what [`Encoder`] writes.

use bytes::Bytes;
use kafka_protocol::records::RecordBatchDecoder;
use proptest::prelude::*;

use crate::{
    kafka::batch::{Encoder, Producer},
    record::{Header, Outgoing},
};

fn bytes() -> impl Strategy<Value = Option<Bytes>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from))
}

fn records() -> impl Strategy<Value = Vec<Outgoing>> {
    // The decoder that we compare with keeps headers in a map, so names differ and are UTF-8.
    let headers = prop::collection::btree_map("[a-z]{0,8}", bytes(), 0..4).prop_map(|headers| {
        headers.into_iter().map(|(name, value)| Header { name: name.into(), value }).collect::<Vec<_>>().into()
    });
    let record = (bytes(), bytes(), headers).prop_map(|(key, value, headers)| Outgoing { key, value, headers });
    prop::collection::vec(record, 1..80)
}

proptest! {
    #[test]
    fn others_read_what_we_write(records in records(), id in 0i64..1000, sequence in 0i32..i32::MAX / 2) {
        let mut encoder = Encoder::with_capacity(0);
        for record in &records {
            encoder.push(record);
        }
        let mut batch = encoder.finish(1_700_000_000_000, Producer { id, epoch: 3, sequence });
        let read = RecordBatchDecoder::decode(&mut batch).expect("a batch").records;
        prop_assert_eq!(read.len(), records.len());
        for (at, (read, written)) in read.iter().zip(&records).enumerate() {
            prop_assert_eq!((&read.key, &read.value), (&written.key, &written.value));
            prop_assert_eq!((read.offset, read.timestamp), (at as i64, 1_700_000_000_000));
            prop_assert_eq!((read.producer_id, read.producer_epoch), (id, 3));
            prop_assert_eq!(read.sequence, sequence + at as i32);
            let headers: Vec<_> = read.headers.iter().map(|(n, v)| (n.as_bytes(), v.as_deref())).collect();
            let expected: Vec<_> = written.headers.iter().collect();
            prop_assert_eq!(headers, expected);
        }
    }
}
