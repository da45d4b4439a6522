//! A member by itself, whose coordinator is the test; and what the two protocols have in common.

use super::{exchange::*, *};

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A set of partitions of topic `t`.
pub(super) fn t(partitions: &[i32]) -> ByName {
    by_name(&[("t", partitions)])
}

pub(super) fn by_name(partitions: &[(&str, &[i32])]) -> ByName {
    partitions.iter().map(|(topic, of)| ((*topic).into(), of.iter().copied().collect())).collect()
}

pub(super) fn id(number: u128) -> TopicId {
    TopicId(uuid::Uuid::from_u128(number))
}

/// What is known: `t` with 4 partitions, `u` with 2; their ids are 1 and 2.
pub(super) fn topics() -> Topics {
    [("t".into(), (id(1), 4)), ("u".into(), (id(2), 2))].into()
}

pub(super) fn settings(protocol: GroupProtocol) -> Settings {
    Settings { protocol, ..Settings::new("uuid".into()) }
}

pub(super) fn names(topics: &[&str]) -> BTreeSet<Arc<str>> {
    topics.iter().map(|topic| (*topic).into()).collect()
}

/// A member, and what time it is. Whatever it sends and tells has to be asked for.
pub(super) struct Driver {
    pub(super) it: Membership,
    pub(super) now: Instant,
}

impl Driver {
    /// It knows its topics, and subscribes to `t`.
    pub(super) fn new(settings: Settings) -> Self {
        let now = Instant::now();
        let mut it = Membership::new(settings, names(&["t"]), now);
        it.topics(topics(), now);
        Self { it, now }
    }

    #[track_caller]
    pub(super) fn request(&mut self) -> (Ticket, Request) {
        self.it.poll_request(self.now).expect("a request")
    }

    #[track_caller]
    pub(super) fn silent(&mut self) {
        assert_eq!(self.it.poll_request(self.now), None);
    }

    pub(super) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.it.handle_answer(ticket, Ok(answer), self.now);
    }

    pub(super) fn refuse(&mut self, ticket: Ticket, refusal: Refusal) {
        self.it.handle_answer(ticket, Err(refusal), self.now);
    }

    /// To when it wants to be called, which must not be later than in `within`.
    #[track_caller]
    pub(super) fn wait(&mut self, within: Duration) -> Duration {
        let at = self.it.poll_timeout().expect("something is due");
        let waited = at.saturating_duration_since(self.now);
        assert!(waited <= within, "nothing is due for {waited:?}");
        self.now = self.now.max(at);
        waited
    }

    /// All changes that are no news for the log.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        std::iter::from_fn(|| self.it.poll_change()).filter(|change| !matches!(change, Change::News(_))).collect()
    }

    pub(super) fn news(&mut self) -> Vec<String> {
        let changes = std::iter::from_fn(|| self.it.poll_change());
        changes
            .filter_map(|change| if let Change::News(news) = change { Some(news.to_string()) } else { None })
            .collect()
    }

    pub(super) fn epoch(&self, member: &str, number: i32) -> Epoch {
        Epoch { member: member.into(), number, instance: None }
    }
}

#[test]
fn an_old_broker_is_spoken_to_in_the_classic_protocol_and_that_is_told_once() {
    let mut driver = Driver::new(settings(GroupProtocol::Auto));
    let (ticket, request) = driver.request();
    assert!(matches!(request, Request::ConsumerBeat(_)));
    driver.refuse(ticket, Refusal::Unsupported("no such request".into()));
    assert!(matches!(driver.request().1, Request::Join(_)));
    let news = driver.news();
    assert_eq!(news.iter().filter(|news| news.contains("no such request")).count(), 1, "{news:?}");
    assert!(driver.changes().is_empty());
}

#[test]
fn who_wants_kip_848_and_cannot_have_it_is_told_what_to_do() {
    let mut driver = Driver::new(settings(GroupProtocol::Consumer));
    let (ticket, _) = driver.request();
    driver.refuse(ticket, Refusal::Unsupported("too old".into()));
    let changes = driver.changes();
    let [Change::Fatal(why @ Fatal::NotSpoken(_))] = &changes[..] else { panic!("{changes:?}") };
    assert!(why.to_string().contains("--group-protocol classic"));
    assert!(driver.it.is_over());
    driver.silent();
    assert_eq!(driver.it.poll_timeout(), None);
}

#[test]
fn what_is_refused_for_ever_ends_it_and_is_told() {
    for protocol in [GroupProtocol::Consumer, GroupProtocol::Classic] {
        for refusal in [
            Refusal::Never("not authorised".into()),
            Refusal::GroupFull,
            Refusal::FencedInstance,
            Refusal::InconsistentProtocol("x".into()),
        ] {
            let mut driver = Driver::new(settings(protocol));
            let (ticket, _) = driver.request();
            driver.refuse(ticket, refusal.clone());
            assert!(matches!(driver.changes()[..], [Change::Fatal(_)]), "{protocol:?} {refusal:?}");
            assert!(driver.it.is_over());
        }
    }
}

#[test]
fn who_has_never_come_needs_not_leave() {
    for protocol in [GroupProtocol::Consumer, GroupProtocol::Classic] {
        let mut driver = Driver::new(settings(protocol));
        driver.it.leave(driver.now);
        assert!(driver.it.is_over());
        driver.silent();
    }
}

#[test]
fn an_answer_to_nothing_changes_nothing() {
    for (protocol, passing) in [
        (GroupProtocol::Consumer, Refusal::Passing("gone".into())),
        (GroupProtocol::Classic, Refusal::Passing("gone".into())),
        (GroupProtocol::Consumer, Refusal::StaleEpoch),
        (GroupProtocol::Classic, Refusal::StaleEpoch),
    ] {
        let mut driver = Driver::new(settings(protocol));
        let (ticket, _) = driver.request();
        driver.refuse(ticket, passing);
        driver.refuse(ticket, Refusal::FencedInstance);
        assert!(driver.changes().is_empty());
        assert_eq!(driver.wait(SECOND), Duration::from_millis(100));
        driver.request();
    }
}
