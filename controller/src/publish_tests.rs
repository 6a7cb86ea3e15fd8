use super::*;
use crate::report::ObjectReport;
use crate::world::{ObjectId, ObjectKind};
use snapshot::pb::client_message::Message;
use snapshot::{ApplyError, Replica, SCHEMA};

/// A data plane on the other end of a session; it refuses bodies when told to.
pub(crate) struct Client {
    pub(crate) session: Session,
    pub(crate) replica: Replica,
    pub(crate) refuses: Vec<Bytes>,
}

impl Client {
    pub(crate) fn connect(publisher: &Arc<Publisher>, replica: Replica) -> Self {
        Self::offering(publisher, replica, &[snapshot::PATCHES])
    }

    /// One with these capabilities.
    pub(crate) fn offering(
        publisher: &Arc<Publisher>,
        replica: Replica,
        capabilities: &[&str],
    ) -> Self {
        let mut session = Session::new(Arc::clone(publisher));
        let hello = pb::Hello {
            node_id: "a".into(),
            schema_min: 1,
            schema_max: SCHEMA,
            build: "test".into(),
            have_digest: replica.digest().to_bytes().to_vec(),
            shares_health: false,
            have_buckets: replica.inventory().buckets.into_wire(),
            capabilities: capabilities.iter().map(|&c| c.to_owned()).collect(),
        };
        let message = pb::ClientMessage {
            message: Some(Message::Hello(hello)),
        };
        assert!(session.on_message(message).unwrap().is_some());
        Self {
            session,
            replica,
            refuses: Vec::new(),
        }
    }

    /// Takes what is due and answers; gives how many transactions there were.
    pub(crate) fn sync(&mut self) -> usize {
        let mut count = 0;
        while let Some(chunks) = self.session.next_chunks() {
            count += 1;
            assert!(self.session.next_chunks().is_none(), "one at a time");
            let transaction = chunks[0].transaction;
            let refused = |r: &&pb::Resource| self.refuses.contains(&r.body);
            let mut all = chunks.iter().flat_map(|c| &c.upsert);
            if let Some(r) = all.find(refused) {
                self.refuse(transaction, r.kind, &r.key);
                continue;
            }
            self.take(chunks);
        }
        count
    }

    /// Takes a transaction and answers.
    pub(crate) fn take(&mut self, chunks: Vec<pb::Chunk>) {
        for chunk in chunks {
            match self.replica.receive(chunk) {
                Ok(None) => {}
                Ok(Some(staged)) => {
                    let applied = self.replica.commit(staged);
                    let ack = pb::Ack {
                        transaction: applied.transaction,
                        digest: applied.digest.to_bytes().to_vec(),
                        listeners: Vec::new(),
                    };
                    self.session.on_ack(&ack).unwrap();
                }
                Err(ApplyError::Resync(why)) => {
                    self.session.on_resync(&pb::Resync { why });
                }
                Err(e) => panic!("{e}"),
            }
        }
    }

    pub(crate) fn refuse(&mut self, transaction: u64, kind: u32, key: &str) {
        let nack = pb::Nack {
            transaction,
            rejected: vec![pb::Rejection {
                kind,
                key: key.into(),
                reason: "cannot be used".into(),
            }],
            message: "one resource".into(),
        };
        self.session.on_nack(&nack).unwrap();
    }
}

fn names(chunks: &[pb::Chunk]) -> Vec<String> {
    let all = chunks.iter().flat_map(|c| &c.upsert);
    all.map(|r| r.key.clone()).collect()
}

pub(crate) fn plugin(key: &str, settings: &str) -> (ResourceId, Option<Bytes>) {
    let plugin = model::Plugin {
        origin: model::ObjectRef::new("Plugin", "a", key),
        name: key.into(),
        kind: "Mock".into(),
        stage: None,
        priority: 100,
        parallel: false,
        failure_policy: model::FailurePolicy::Fail,
        run_on_local_reply: false,
        settings: settings.into(),
    };
    let body = snapshot::encode(&plugin).unwrap();
    ((Kind::Plugin, key.into()), Some(body.into()))
}

fn report(key: &str) -> ObjectReport {
    let id = ObjectId::new(ObjectKind::Plugin, "a", key);
    ObjectReport {
        resources: [(Kind::Plugin, key.into())].into_iter().collect(),
        ..ObjectReport::new(id, 1, Vec::new())
    }
}

#[test]
fn nothing_is_sent_before_the_first_publication_and_an_empty_one_counts() {
    let publisher = Publisher::new("s");
    let mut client = Client::connect(&publisher, Replica::default());
    assert_eq!(client.sync(), 0);
    let mut generation = publisher.subscribe();
    publisher.publish([], 0);
    assert!(generation.has_changed().unwrap());
    assert_eq!(*generation.borrow_and_update(), Some(0));
    assert_eq!(
        client.sync(),
        1,
        "an empty configuration is a configuration"
    );
    assert_eq!(client.sync(), 0);
}

/// What a publisher that knows nothing of before holds; `changed` are in another version.
fn restarted(keys: std::ops::Range<usize>, changed: &[usize]) -> Arc<Publisher> {
    let publisher = Publisher::new("s");
    let body = |n: usize| if changed.contains(&n) { "2" } else { "1" };
    publisher.publish(keys.map(|n| plugin(&format!("p{n}"), body(n))), 0);
    publisher
}

#[test]
fn a_restarted_controller_sends_what_was_changed_meanwhile_and_not_everything() {
    let before = restarted(0..1000, &[]);
    let mut client = Client::connect(&before, Replica::default());
    assert_eq!(client.sync(), 1);

    // One is changed and one is new. Nothing is published yet when the data plane says what it has.
    let now = Publisher::new("s");
    let mut client = Client::connect(&now, client.replica);
    assert_eq!(client.sync(), 0);
    let all = (0..1001).map(|n| plugin(&format!("p{n}"), if n == 7 { "2" } else { "1" }));
    now.publish(all, 0);
    let chunks = client.session.next_chunks().unwrap();
    let names = names(&chunks);
    assert!(!chunks[0].full);
    assert!(names.contains(&"p7".to_owned()) && names.contains(&"p1000".to_owned()));
    assert!(names.len() < 200, "{}", names.len());
    client.take(chunks);
    assert_eq!(client.replica.digest(), now.cursor().digest);
    assert_eq!(now.data_planes()[0].acknowledged, Some(1));

    // Nothing at all is sent where nothing was changed, whoever was first.
    let same = Publisher::new("s");
    let mut client = Client::connect(&same, client.replica);
    let all = (0..1001).map(|n| plugin(&format!("p{n}"), if n == 7 { "2" } else { "1" }));
    same.publish(all, 0);
    assert_eq!(client.sync(), 0);
    assert_eq!(same.data_planes()[0].acknowledged, Some(1));
}

#[test]
fn what_is_gone_after_a_restart_goes_from_data_planes_too() {
    let before = restarted(0..1000, &[]);
    let mut client = Client::connect(&before, Replica::default());
    client.sync();
    let now = restarted(0..999, &[3]);
    let mut client = Client::connect(&now, client.replica);
    assert_eq!(client.sync(), 2, "the parts, and then everything");
    assert_eq!(client.replica.digest(), now.cursor().digest);
    assert_eq!(client.replica.len(), 999);
}

#[test]
fn changes_merge_while_one_is_under_way() {
    let publisher = Publisher::new("s");
    publisher.publish([plugin("x", "1")], 0);
    let mut client = Client::connect(&publisher, Replica::default());
    let first = client.session.next_chunks().unwrap();
    publisher.publish([plugin("x", "2")], 0);
    publisher.publish([plugin("y", "1")], 0);
    assert!(client.session.next_chunks().is_none());
    for chunk in first {
        if let Some(staged) = client.replica.receive(chunk).unwrap() {
            let applied = client.replica.commit(staged);
            let digest = applied.digest.to_bytes().to_vec();
            let transaction = applied.transaction;
            let ack = pb::Ack {
                transaction,
                digest,
                listeners: Vec::new(),
            };
            client.session.on_ack(&ack).unwrap();
        }
    }
    let second = client.session.next_chunks().unwrap();
    assert_eq!(names(&second), ["x", "y"]);
    assert!(!second[0].full);
}

#[test]
fn programmed_waits_for_all_and_says_when_there_is_nobody() {
    let publisher = Publisher::new("s");
    publisher.publish([plugin("x", "1")], 0);
    assert_eq!(
        publisher.programmed(&report("x").resources),
        Programmed::NoDataPlane
    );
    let mut a = Client::connect(&publisher, Replica::default());
    let mut b = Client::connect(&publisher, Replica::default());
    let mut progress = publisher.progress();
    progress.borrow_and_update();
    a.sync();
    assert!(progress.has_changed().unwrap());
    assert_eq!(
        publisher.programmed(&report("x").resources),
        Programmed::Pending
    );
    b.sync();
    assert_eq!(
        publisher.programmed(&report("x").resources),
        Programmed::Yes
    );
    publisher.publish([plugin("y", "1")], 0);
    assert_eq!(
        publisher.programmed(&report("x").resources),
        Programmed::Yes,
        "its own resource is there"
    );
    assert_eq!(
        publisher.programmed(&report("y").resources),
        Programmed::Pending
    );
    a.sync();
    drop(b);
    assert_eq!(
        publisher.programmed(&report("y").resources),
        Programmed::Yes,
        "who left is not waited for"
    );
}

#[test]
fn a_refused_resource_goes_back_and_the_others_go_on() {
    let publisher = Publisher::new("s");
    publisher.publish([plugin("bad", "1"), plugin("x", "1")], 0);
    let mut client = Client::connect(&publisher, Replica::default());
    client.sync();
    client.refuses.extend(plugin("bad", "2").1);
    publisher.publish([plugin("bad", "2"), plugin("x", "2")], 0);
    assert_eq!(client.sync(), 2, "refused, then without the bad one");
    assert_eq!(
        publisher.programmed(&report("bad").resources),
        Programmed::Rejected("cannot be used".into())
    );
    assert_eq!(
        publisher.programmed(&report("x").resources),
        Programmed::Yes
    );
    assert_eq!(client.replica.len(), 2);
    // The same body stays out, another one gets its chance.
    publisher.publish([plugin("bad", "2")], 0);
    assert_eq!(client.sync(), 0);
    publisher.publish([plugin("bad", "3")], 0);
    assert_eq!(client.sync(), 1);
    assert_eq!(
        publisher.programmed(&report("bad").resources),
        Programmed::Yes
    );
    assert!(publisher.rejections().is_empty());
}

/// Two data planes; the second comes later, and refuses what the first serves.
fn one_and_a_bad_one(publisher: &Arc<Publisher>, bad: &(ResourceId, Option<Bytes>)) -> [Client; 2] {
    let mut one = Client::connect(publisher, Replica::default());
    one.sync();
    let mut other = Client::connect(publisher, Replica::default());
    other.refuses.extend(bad.1.clone());
    assert_eq!(other.sync(), 2, "everything, then without what it refuses");
    assert_eq!(one.sync(), 0, "it is told nothing");
    [one, other]
}

fn lacking() -> Programmed {
    Programmed::Lacking("data plane a refuses it: cannot be used".into())
}

#[test]
fn what_others_serve_is_not_taken_from_them_by_one_that_comes_and_refuses_it() {
    let publisher = Publisher::new("s");
    publisher.publish([plugin("bad", "1"), plugin("x", "1")], 0);
    let [mut one, mut other] = one_and_a_bad_one(&publisher, &plugin("bad", "1"));
    assert_eq!((one.replica.len(), other.replica.len()), (2, 1));
    assert_eq!(publisher.programmed(&report("bad").resources), lacking());
    assert_eq!(publisher.rejections().len(), 1);
    assert!(publisher.data_planes()[1].is_rejecting());

    // It is given everything else, also what changes, and another version of what it refuses.
    publisher.publish([plugin("x", "2")], 0);
    assert_eq!((one.sync(), other.sync()), (1, 1));
    assert_eq!(
        publisher.programmed(&report("x").resources),
        Programmed::Yes
    );
    publisher.publish([plugin("bad", "2")], 0);
    assert_eq!((one.sync(), other.sync()), (1, 1));
    assert_eq!(one.replica.digest(), other.replica.digest());
    assert_eq!(
        publisher.programmed(&report("bad").resources),
        Programmed::Yes
    );
    assert!(!publisher.data_planes()[1].is_rejecting());
}

#[test]
fn whoever_goes_without_one_version_holds_back_no_other() {
    let publisher = Publisher::new("s");
    publisher.publish([plugin("bad", "1"), plugin("x", "1")], 0);
    let [mut one, mut other] = one_and_a_bad_one(&publisher, &plugin("bad", "1"));
    other.refuses.extend(plugin("bad", "2").1);
    publisher.publish([plugin("bad", "2")], 0);
    assert_eq!(other.sync(), 2);
    assert_eq!(one.sync(), 1);
    assert_eq!(one.replica.digest(), publisher.cursor().digest);
    assert_eq!(publisher.programmed(&report("bad").resources), lacking());
    // What it is gone without is gone, too.
    publisher.publish([((Kind::Plugin, "bad".into()), None)], 0);
    assert_eq!((one.sync(), other.sync()), (1, 1));
    assert_eq!(one.replica.digest(), other.replica.digest());
    drop(other);
    assert!(publisher.rejections().is_empty());
}

#[test]
fn a_controller_that_starts_anew_takes_nothing_from_anybody_either() {
    let all = || [plugin("bad", "1"), plugin("x", "1")];
    let before = Publisher::new("s");
    before.publish(all(), 0);
    let mut one = Client::connect(&before, Replica::default());
    one.sync();

    let publisher = Publisher::new("s");
    publisher.publish(all(), 0);
    // The one that refuses it is the first that comes.
    let mut other = Client::connect(&publisher, Replica::default());
    other.refuses.extend(plugin("bad", "1").1);
    assert_eq!(other.sync(), 2);
    let mut one = Client::connect(&publisher, one.replica);
    assert_eq!(one.sync(), 0);
    assert_eq!(one.replica.len(), 2);
}

#[test]
fn one_that_comes_while_a_version_is_new_is_given_the_one_before() {
    let publisher = Publisher::new("s");
    publisher.publish([plugin("bad", "1")], 0);
    let mut one = Client::connect(&publisher, Replica::default());
    one.sync();
    publisher.publish([plugin("bad", "2")], 0);
    let mut other = Client::connect(&publisher, Replica::default());
    other.refuses.extend(plugin("bad", "2").1);
    assert_eq!(other.sync(), 2);
    assert_eq!((one.sync(), other.replica.len()), (1, 1));
    assert_eq!(one.replica.digest(), publisher.cursor().digest);
    assert_eq!(publisher.programmed(&report("bad").resources), lacking());
}

#[test]
fn what_nobody_refuses_any_more_gets_another_chance() {
    let publisher = Publisher::new("s");
    publisher.publish([plugin("bad", "1")], 0);
    let connect = || {
        let mut client = Client::connect(&publisher, Replica::default());
        client.sync();
        client
    };
    let [mut one, mut other] = [connect(), connect()];
    other.refuses.extend(plugin("bad", "2").1);
    publisher.publish([plugin("bad", "2")], 0);
    other.sync();
    one.sync();
    let before = one.replica.digest();
    assert_eq!(before, other.replica.digest());
    let mut generations = publisher.subscribe();
    generations.mark_unchanged();
    drop(other);
    assert!(generations.has_changed().unwrap());
    assert_eq!(one.sync(), 1);
    assert_ne!(before, one.replica.digest());
    assert!(publisher.rejections().is_empty());
}

#[test]
fn a_route_that_is_refused_answers_500_there_or_nothing() {
    let matches = vec![model::Match::any()];
    let redirect = model::Action::Closed { code: "x".into() };
    let route = model::Route {
        origin: model::ObjectRef::new("Route", "a", "bad"),
        created: 0,
        tenant: None,
        listeners: vec!["a/c/l".into()],
        hosts: vec![model::HostPattern::Any],
        rules: vec![model::Rule {
            max_request_body: 7,
            ..model::Rule::new(matches.clone(), redirect)
        }],
    };
    let mut closed = route.clone();
    let code = "plugin_error".to_owned();
    closed.rules = vec![model::Rule::new(matches, model::Action::Closed { code })];
    let body = |route: &model::Route| Bytes::from(snapshot::encode(route).unwrap());
    let publisher = Publisher::new("s");
    let id: ResourceId = (Kind::Route, "a/bad".into());
    publisher.publish([(id, Some(body(&route)))], 0);

    let mut client = Client::connect(&publisher, Replica::default());
    client.refuses.push(body(&route));
    assert_eq!(client.sync(), 2);
    let mut expected = Digest::default();
    expected.add(Kind::Route as u32, "a/bad", Hash::of(&body(&closed)));
    assert_eq!(client.replica.digest(), expected);

    let mut client = Client::connect(&publisher, Replica::default());
    client.refuses.extend([body(&route), body(&closed)]);
    assert_eq!(client.sync(), 3);
    assert_eq!(client.replica.digest(), Digest::default());
}

#[test]
fn a_refusal_without_a_culprit_is_not_repeated_before_something_changes() {
    let publisher = Publisher::new("s");
    publisher.publish([plugin("x", "1")], 0);
    let mut client = Client::connect(&publisher, Replica::default());
    let transaction = client.session.next_chunks().unwrap()[0].transaction;
    let nack = pb::Nack {
        transaction,
        rejected: Vec::new(),
        message: "no table".into(),
    };
    client.session.on_nack(&nack).unwrap();
    assert!(client.session.next_chunks().is_none());
    assert_eq!(
        publisher.data_planes()[0].refused.as_deref(),
        Some("no table")
    );
    publisher.publish([plugin("y", "1")], 0);
    assert_eq!(client.sync(), 1);
}

#[test]
fn a_stream_resumes_from_a_known_digest() {
    let publisher = Publisher::new("s");
    publisher.publish([plugin("x", "1"), plugin("y", "1")], 0);
    let mut client = Client::connect(&publisher, Replica::default());
    client.sync();
    let replica = std::mem::take(&mut client.replica);
    drop(client);
    publisher.publish([plugin("x", "2"), ((Kind::Plugin, "y".into()), None)], 0);
    let mut again = Client::connect(&publisher, replica);
    let chunks = again.session.next_chunks().unwrap();
    assert!(!chunks[0].full);
    assert_eq!((chunks[0].upsert.len(), chunks[0].remove.len()), (1, 1));
    again.session.on_resync(&pb::Resync { why: "test".into() });
    assert!(again.session.next_chunks().unwrap()[0].full);
}

#[test]
fn a_change_and_its_undoing_need_no_transaction() {
    let publisher = Publisher::new("s");
    publisher.publish([plugin("x", "1")], 0);
    let mut client = Client::connect(&publisher, Replica::default());
    client.sync();
    publisher.publish([plugin("x", "2")], 0);
    publisher.publish([plugin("x", "1")], 0);
    assert_eq!(
        publisher.programmed(&report("x").resources),
        Programmed::Pending
    );
    assert_eq!(client.sync(), 0);
    assert_eq!(
        publisher.programmed(&report("x").resources),
        Programmed::Yes
    );
}

#[test]
fn a_stream_that_breaks_the_rules_ends() {
    let publisher = Publisher::new("s");
    publisher.publish([plugin("x", "1")], 0);
    let mut session = Session::new(Arc::clone(&publisher));
    let ack = |transaction| pb::ClientMessage {
        message: Some(Message::Ack(pb::Ack {
            transaction,
            ..pb::Ack::default()
        })),
    };
    assert_eq!(session.on_message(ack(1)), Err(SessionError::Order));
    let hello = pb::Hello {
        schema_min: SCHEMA + 1,
        schema_max: SCHEMA + 2,
        ..pb::Hello::default()
    };
    assert!(matches!(
        session.on_hello(&hello),
        Err(SessionError::Schema { .. })
    ));
    assert_eq!(
        session.on_message(pb::ClientMessage::default()),
        Err(SessionError::Empty)
    );
    drop(session);
    let mut client = Client::connect(&publisher, Replica::default());
    assert_eq!(
        client.session.on_message(ack(7)),
        Err(SessionError::NotUnderWay)
    );
    client.session.next_chunks().unwrap();
    assert_eq!(client.session.on_message(ack(1)), Err(SessionError::Digest));
    drop(client);
    assert!(publisher.data_planes().is_empty());
}

#[test]
fn a_draining_data_plane_is_not_waited_for() {
    let publisher = Publisher::new("s");
    publisher.publish([plugin("x", "1")], 0);
    let mut client = Client::connect(&publisher, Replica::default());
    let draining = pb::ClientMessage {
        message: Some(Message::Draining(pb::Draining {})),
    };
    client.session.on_message(draining).unwrap();
    assert_eq!(
        publisher.programmed(&report("x").resources),
        Programmed::NoDataPlane
    );
}

/// So many endpoints of a Service, of which one may be ready.
fn shard(ready: Option<usize>) -> (ResourceId, Option<Bytes>) {
    let endpoint = |n: usize| model::Endpoint {
        address: std::net::Ipv4Addr::from(0x0a00_0000 + n as u32 * 7919).into(),
        port: 80,
        ready: ready == Some(n),
        serving: true,
        terminating: false,
        zone: None,
    };
    let shard = model::EndpointShard {
        service: "a/s:80".to_owned(),
        endpoints: (0..100).map(endpoint).collect(),
    };
    let id = (Kind::EndpointShard, "a/s:80/s-1".into());
    (id, Some(snapshot::encode(&shard).unwrap().into()))
}

#[test]
fn a_changed_endpoint_travels_as_a_patch_to_whoever_reads_patches() {
    let publisher = Publisher::new("s");
    publisher.publish([shard(None)], 0);
    let mut reads = Client::connect(&publisher, Replica::default());
    let mut old = Client::connect(&publisher, Replica::default());
    old.session.patches = false;
    assert_eq!((reads.sync(), old.sync()), (1, 1));
    for ready in 0..3 {
        publisher.publish([shard(Some(ready))], 0);
        let sent = |client: &mut Client| {
            let chunks = client.session.next_chunks().unwrap();
            let sent = (chunks[0].upsert.len(), chunks[0].patch.len());
            client.take(chunks);
            sent
        };
        assert_eq!(sent(&mut reads), (0, 1));
        assert_eq!(sent(&mut old), (1, 0));
    }
    // One that misses a version holds what is not known any more.
    publisher.publish([shard(Some(3))], 0);
    publisher.publish([shard(Some(4))], 0);
    let chunks = reads.session.next_chunks().unwrap();
    assert_eq!((chunks[0].upsert.len(), chunks[0].patch.len()), (1, 0));
    reads.take(chunks);
    old.sync();
    assert_eq!(reads.replica.digest(), publisher.cursor().digest);
    assert_eq!(old.replica.digest(), publisher.cursor().digest);
}
