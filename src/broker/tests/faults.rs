//! What tests can make go wrong.

use std::{
    io::ErrorKind,
    net::TcpStream,
    time::{Duration, Instant},
};

use kafka_protocol::{
    error::ResponseError,
    messages::{FindCoordinatorRequest, ListGroupsRequest, MetadataRequest},
};

use super::*;
use crate::{broker::NodeId, record::Offset};

/// Long enough to see that nothing comes.
const MOMENT: Duration = Duration::from_millis(100);

fn two_topics() -> (Broker, Client) {
    let broker = start();
    broker.create_topic("t", 2).unwrap();
    broker.create_topic("u", 1).unwrap();
    let client = Client::of(&broker);
    (broker, client)
}

#[test]
fn an_error_is_for_the_place_it_was_set_for_and_is_used_up() {
    let (broker, mut client) = two_topics();
    let fault =
        broker.faults().next(ApiKey::Fetch).topic("t").partition(1).times(2).error(ResponseError::UnknownServerError);
    let request = fetch_request(&[("t", 0, 0), ("t", 1, 0), ("u", 0, 0)]);
    let mut codes = |request: &_| -> Vec<i16> {
        partitions(client.ask(request, 12)).iter().map(|partition| partition.error_code).collect()
    };
    assert_eq!(codes(&fetch_request(&[("u", 0, 0)])), [0], "does not name the place, and does not use it up");
    assert_eq!(codes(&request), [0, -1, 0]);
    assert!(fault.is_set());
    assert_eq!(codes(&request), [0, -1, 0]);
    assert!(!fault.is_set());
    assert_eq!(codes(&request), [0, 0, 0]);
    let fault = broker.faults().every(ApiKey::Fetch).error(ResponseError::KafkaStorageError);
    assert_eq!(codes(&request), [56, 56, 56]);
    fault.clear();
    assert_eq!(codes(&request), [0, 0, 0]);
    assert_eq!(broker.requests(ApiKey::Fetch), 6);
    assert_eq!(broker.requests(ApiKey::Produce), 0);
}

#[test]
fn a_request_that_fails_is_not_carried_out() {
    let (broker, mut client) = two_topics();
    broker.faults().next(ApiKey::Produce).error(ResponseError::NotEnoughReplicas);
    let answer = produce(&mut client, "t", 0, batch(&["a"]));
    assert_eq!(answer.error_code, ResponseError::NotEnoughReplicas.code());
    assert_eq!(broker.end_offset("t", 0), Some(Offset(0)));
    broker.faults().next(ApiKey::FindCoordinator).error(ResponseError::CoordinatorNotAvailable);
    broker.faults().next(ApiKey::ListGroups).error(ResponseError::CoordinatorLoadInProgress);
    let found = client.ask(&FindCoordinatorRequest::default().with_coordinator_keys(vec!["g".into()]), 4);
    assert_eq!(found.coordinators[0].error_code, ResponseError::CoordinatorNotAvailable.code());
    let listed = client.ask(&ListGroupsRequest::default(), 4);
    assert_eq!(listed.error_code, ResponseError::CoordinatorLoadInProgress.code());
    broker.faults().next(ApiKey::Metadata).topic("u").error(ResponseError::LeaderNotAvailable);
    let topics = client.ask(&MetadataRequest::default().with_topics(None), 9).topics;
    assert_eq!(topics.iter().map(|topic| topic.error_code).collect::<Vec<_>>(), [0, 5]);
}

#[test]
fn faults_keep_to_their_client() {
    let (broker, mut client) = two_topics();
    let faults = broker.faults();
    faults.every(ApiKey::Fetch).client_id("another").error(ResponseError::UnknownServerError);
    assert_eq!(fetch(&mut client, "t", 0, 0).error_code, 0);
    faults.all().client_id("test").error(ResponseError::UnknownServerError);
    assert_eq!(fetch(&mut client, "t", 0, 0).error_code, -1);
    faults.clear();
    assert_eq!(fetch(&mut client, "t", 0, 0).error_code, 0);
}

#[test]
fn an_answer_can_come_late() {
    let (broker, mut client) = two_topics();
    broker.faults().next(ApiKey::Produce).delay(MOMENT);
    let asked = Instant::now();
    assert_eq!(produce(&mut client, "t", 0, batch(&["a"])).error_code, 0);
    assert!(asked.elapsed() >= MOMENT);
}

#[test]
fn a_connection_can_end_within_an_answer() {
    let (broker, mut client) = two_topics();
    broker.faults().next(ApiKey::Produce).close_after_bytes(10);
    client.send(&produce_request("t", 0, batch(&["a"])), 9).unwrap();
    assert_eq!(client.receive_until_closed().len(), 10);
    assert_eq!(broker.end_offset("t", 0), Some(Offset(1)), "it was carried out");

    let mut client = Client::of(&broker);
    broker.faults().next(ApiKey::Produce).disconnect();
    client.send(&produce_request("t", 0, batch(&["b"])), 9).unwrap();
    assert!(client.receive_until_closed().is_empty());
    assert_eq!(broker.end_offset("t", 0), Some(Offset(1)), "it was not carried out");
}

#[test]
fn a_black_hole_answers_nothing_but_stays_open() {
    let (broker, mut client) = two_topics();
    let fault = broker.faults().every(ApiKey::Fetch).black_hole();
    client.send(&fetch_request(&[("t", 0, 0)]), 12).unwrap();
    client.send(&MetadataRequest::default(), 9).unwrap();
    client.stream.set_read_timeout(Some(MOMENT)).unwrap();
    let silence = client.receive().unwrap_err().kind();
    assert!(matches!(silence, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence:?}");
    Client::of(&broker).ask(&MetadataRequest::default(), 9);
    fault.clear();
    assert_eq!(fetch(&mut Client::of(&broker), "t", 0, 0).error_code, 0);
}

#[test]
fn a_paused_broker_goes_on_where_it_was() {
    let (broker, mut client) = two_topics();
    broker.pause();
    client.send(&produce_request("t", 0, batch(&["a"])), 9).unwrap();
    let mut fresh = Client::of(&broker);
    fresh.send(&MetadataRequest::default(), 9).unwrap();
    for client in [&mut client, &mut fresh] {
        client.stream.set_read_timeout(Some(MOMENT)).unwrap();
        assert!(client.stream.peek(&mut [0]).is_err());
        client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    assert_eq!(broker.end_offset("t", 0), Some(Offset(0)), "nothing is carried out either");
    broker.resume();
    client.receive().unwrap();
    fresh.receive().unwrap();
    assert_eq!(broker.end_offset("t", 0), Some(Offset(1)));
}

#[test]
fn a_node_that_is_down_refuses_and_comes_back_with_all_it_had() {
    let broker = start_nodes(2);
    broker.create_topic("t", 2).unwrap();
    broker.append_values("t", 1, ["kept"]).unwrap();
    let second = broker.nodes()[1].1.clone();
    let mut client = Client::at(&second);
    assert_eq!(values(&fetch(&mut client, "t", 1, 0)), [value(0, "kept")]);
    broker.take_down(NodeId(2));
    assert!(client.receive_until_closed().is_empty());
    assert!(TcpStream::connect(&second).is_err());
    assert_eq!(fetch(&mut Client::of(&broker), "t", 0, 0).error_code, 0, "the other is up");
    broker.bring_up(NodeId(2)).unwrap();
    assert_eq!(values(&fetch(&mut Client::at(&second), "t", 1, 0)), [value(0, "kept")]);
    assert_eq!(broker.requests_at(ApiKey::Fetch, NodeId(2)), 2);
    let mut client = Client::of(&broker);
    client.ask(&MetadataRequest::default(), 9);
    broker.disconnect_all();
    assert!(client.receive_until_closed().is_empty());
    assert_eq!(fetch(&mut Client::of(&broker), "t", 0, 0).error_code, 0);
}

#[test]
fn the_wrong_node_says_who_leads() {
    let broker = start_nodes(2);
    broker.create_topic("t", 1).unwrap();
    broker.append_values("t", 0, ["a"]).unwrap();
    broker.move_leader("t", 0, NodeId(2)).unwrap();
    let data = fetch(&mut Client::of(&broker), "t", 0, 0);
    assert_eq!((data.error_code, data.current_leader.leader_id.0, data.current_leader.leader_epoch), (6, 2, 1));
    let mut second = Client::at(&broker.nodes()[1].1);
    assert_eq!(values(&fetch(&mut second, "t", 0, 0)), [value(0, "a")]);
    let mut request = fetch_request(&[("t", 0, 0)]);
    request.topics[0].partitions[0].current_leader_epoch = 0;
    let fenced = partitions(second.ask(&request, 12)).remove(0);
    assert_eq!(fenced.error_code, ResponseError::FencedLeaderEpoch.code());
}

#[tokio::test]
async fn tests_can_wait_for_what_clients_do() {
    let (broker, _) = two_topics();
    assert!(!broker.until(MOMENT, |broker| broker.requests(ApiKey::Metadata) > 0).await);
    let address = broker.address();
    let asking = tokio::task::spawn_blocking(move || Client::at(&address).ask(&MetadataRequest::default(), 9));
    assert!(broker.until(PATIENCE, |broker| broker.requests(ApiKey::Metadata) > 0).await);
    asking.await.unwrap();
}
