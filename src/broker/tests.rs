//! A running broker over TCP: asked by a plain client of `kafka-protocol`'s client side, and by rskafka.

mod faults;
mod membership;
mod protocol;
mod rskafka;
mod versions;

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ApiKey, FetchRequest, FetchResponse, ProduceRequest, RequestHeader, ResponseHeader, TopicName,
        fetch_request::{FetchPartition, FetchTopic},
        fetch_response::PartitionData,
        produce_request::{PartitionProduceData, TopicProduceData},
        produce_response::PartitionProduceResponse,
    },
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes},
};

use super::{Broker, Options, batch::encode};
use crate::record::{Headers, Outgoing};

/// No answer takes longer, unless none is to come.
const PATIENCE: Duration = Duration::from_secs(20);

fn start() -> Broker {
    Broker::start(Options::default()).unwrap()
}

fn start_nodes(nodes: u16) -> Broker {
    Broker::start(Options { nodes, ..Options::default() }).unwrap()
}

fn name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn batch(values: &[&str]) -> Bytes {
    let record =
        |value: &&str| Outgoing { key: None, value: Some(value.to_string().into()), headers: Headers::default() };
    let records: Vec<_> = values.iter().map(record).collect();
    encode(&records, 1_000, usize::MAX).remove(0).bytes
}

/// A client that asks one thing at a time.
struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    fn of(broker: &Broker) -> Self {
        Self::at(&broker.address())
    }

    fn at(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, correlation_id: 0 }
    }

    fn ask<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.try_ask(request, version).unwrap()
    }

    fn try_ask<R: Request>(&mut self, request: &R, version: i16) -> io::Result<R::Response> {
        self.send(request, version)?;
        self.try_answer(version)
    }

    /// The answer to what was sent.
    fn answer<A: Decodable + HeaderVersion>(&mut self, version: i16) -> A {
        self.try_answer(version).unwrap()
    }

    fn try_answer<A: Decodable + HeaderVersion>(&mut self, version: i16) -> io::Result<A> {
        let mut frame = self.receive()?;
        let header = ResponseHeader::decode(&mut frame, A::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.correlation_id);
        let response = A::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty(), "the answer has bytes too many");
        Ok(response)
    }

    fn send<R: Request>(&mut self, request: &R, version: i16) -> io::Result<()> {
        self.correlation_id += 1;
        let mut frame = BytesMut::new();
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some("test".into()));
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        self.send_frame(&frame)
    }

    fn send_frame(&mut self, frame: &[u8]) -> io::Result<()> {
        self.stream.write_all(&[&(frame.len() as i32).to_be_bytes(), frame].concat())
    }

    fn receive(&mut self) -> io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; (&length[..]).get_i32() as usize];
        self.stream.read_exact(&mut frame)?;
        Ok(frame.into())
    }

    /// Everything that comes before the broker closes the connection.
    fn receive_until_closed(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("not closed: {error}"),
            _ => bytes,
        }
    }
}

fn produce_request(topic: &str, partition: i32, batch: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(1_000).with_topic_data(vec![topic])
}

fn produce(client: &mut Client, topic: &str, partition: i32, batch: Bytes) -> PartitionProduceResponse {
    let mut response = client.ask(&produce_request(topic, partition, batch), 9);
    response.responses.remove(0).partition_responses.remove(0)
}

/// Asks for these partitions from these offsets on, and waits for nothing.
fn fetch_request(asked: &[(&str, i32, i64)]) -> FetchRequest {
    let topic = |&(topic, partition, offset): &(&str, i32, i64)| {
        let partition = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1_000_000);
        FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition])
    };
    FetchRequest::default()
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(10_000_000)
        .with_topics(asked.iter().map(topic).collect())
}

fn partitions(response: FetchResponse) -> Vec<PartitionData> {
    response.responses.into_iter().flat_map(|topic| topic.partitions).collect()
}

fn fetch(client: &mut Client, topic: &str, partition: i32, offset: i64) -> PartitionData {
    partitions(client.ask(&fetch_request(&[(topic, partition, offset)]), 12)).remove(0)
}

/// Offsets and values, read by a decoder that is not ours.
fn values(data: &PartitionData) -> Vec<(i64, String)> {
    let mut bytes = data.records.clone().unwrap();
    let sets = kafka_protocol::records::RecordBatchDecoder::decode_all(&mut bytes).unwrap();
    let value = |r: &kafka_protocol::records::Record| String::from_utf8(r.value.clone().unwrap().to_vec()).unwrap();
    sets.iter().flat_map(|set| &set.records).map(|record| (record.offset, value(record))).collect()
}

fn value(offset: i64, value: &str) -> (i64, String) {
    (offset, value.to_owned())
}
