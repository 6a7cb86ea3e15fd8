use super::super::tests::Client;
use super::super::{Publisher, ReplicaStream, ResourceId, Teller};
use super::*;
use crate::report::Programmed;
use bytes::Bytes;
use model::{
    Action, FailurePolicy, HeaderMatch, HostPattern, Match, ObjectRef, Plugin, Route, Rule, Tenant,
    ValueMatch,
};
use snapshot::{Capability, Digest, Hash, PATCHES, Replica, Section};
use std::sync::Arc;

/// A field that this build does not know (900, of one byte), as a newer one writes it.
const LATER: [u8; 4] = [0xa2, 0x38, 1, b'x'];
const ALLOW: &str = "allow-list";

const fn later(name: &'static str, kind: Kind) -> Capability {
    Capability {
        name,
        kind,
        uses: |body| body.ends_with(&LATER),
    }
}

/// What a newer controller knows.
static NEWER: &[Capability] = &[
    later(ALLOW, Kind::Route),
    later(ALLOW, Kind::Plugin),
    later(ALLOW, Kind::Tenant),
    Capability {
        name: "header-match",
        kind: Kind::Route,
        uses: |body| {
            let route = snapshot::decode::<Route>(body).unwrap();
            let mut matches = route.rules.iter().flat_map(|rule| &rule.matches);
            matches.any(|m| !m.headers.is_empty())
        },
    },
];

fn newer() -> Arc<Publisher> {
    Publisher::knowing(NEWER, "s", Arc::default())
}

/// A data plane of the controller's build, and an older one. What they hold says what they understand: the older one would
/// refuse whatever requires anything.
fn new_one(publisher: &Arc<Publisher>) -> Client {
    let capabilities = [PATCHES, ALLOW, "header-match"];
    Client::offering(publisher, Replica::knowing(NEWER), &capabilities)
}

fn old_one(publisher: &Arc<Publisher>) -> Client {
    Client::connect(publisher, Replica::default())
}

fn id(kind: Kind, key: &str) -> ResourceId {
    (kind, key.into())
}

/// A change of one resource, which uses what is new or does not.
fn change<S: Section>(key: &str, item: &S, is_new: bool) -> (ResourceId, Option<Bytes>) {
    let mut body = snapshot::encode(item).unwrap();
    if is_new {
        body.extend(LATER);
    }
    (id(S::KIND, key), Some(body.into()))
}

fn plugin(settings: &str) -> Plugin {
    Plugin {
        origin: ObjectRef::new("Plugin", "a", "p"),
        name: "p".into(),
        kind: "Mock".into(),
        stage: None,
        priority: 100,
        parallel: false,
        failure_policy: FailurePolicy::Fail,
        run_on_local_reply: false,
        settings: settings.into(),
    }
}

fn route(matches: Match, code: &str) -> Route {
    let code = code.to_owned();
    Route {
        origin: ObjectRef::new("Route", "a", "r"),
        created: 0,
        tenant: None,
        listeners: vec!["a/c/l".into()],
        hosts: vec![HostPattern::Any],
        rules: vec![Rule::new(vec![matches], Action::Closed { code })],
    }
}

/// The digest of these and nothing else.
fn digest<'a>(all: impl IntoIterator<Item = &'a (ResourceId, Option<Bytes>)>) -> Digest {
    let mut digest = Digest::default();
    for ((kind, key), body) in all {
        digest.add(*kind as u32, key, Hash::of(body.as_ref().unwrap()));
    }
    digest
}

fn too_old(capability: &str) -> Programmed {
    Programmed::TooOld(format!(
        "data plane a is too old for it: it lacks the capability `{capability}`"
    ))
}

#[test]
fn an_older_data_plane_keeps_what_it_had_and_the_others_do_not_wait() {
    let publisher = newer();
    let other = |settings| change("other", &plugin(settings), false);
    let first = change("p", &plugin("1"), false);
    publisher.publish([first.clone(), other("1")], 0);
    let (mut new, mut old) = (new_one(&publisher), old_one(&publisher));
    assert_eq!((new.sync(), old.sync()), (1, 1));

    // Whoever passes over what is new has the version before, less of what restricts it.
    let second = change("p", &plugin("2"), true);
    publisher.publish([second, other("2")], 0);
    assert_eq!((new.sync(), old.sync()), (1, 1));
    assert_eq!(new.replica.digest(), publisher.cursor().digest);
    assert_eq!(old.replica.digest(), digest([&first, &other("2")]));
    let programmed = |key| publisher.programmed([&id(Kind::Plugin, key)]);
    assert_eq!(programmed("p"), too_old(ALLOW));
    assert_eq!(programmed("other"), Programmed::Yes);
    assert!(publisher.data_planes()[1].is_rejecting());

    // A further version that needs it changes nothing, and one that does not is for all.
    publisher.publish([change("p", &plugin("3"), true)], 0);
    assert_eq!((new.sync(), old.sync()), (1, 1));
    assert_eq!(old.replica.digest(), digest([&first, &other("2")]));
    publisher.publish([change("p", &plugin("4"), false)], 0);
    assert_eq!((new.sync(), old.sync()), (1, 1));
    assert_eq!(old.replica.digest(), publisher.cursor().digest);
    assert_eq!(programmed("p"), Programmed::Yes);
    assert!(!publisher.data_planes()[1].is_rejecting());
    assert!(publisher.rejections().is_empty());
}

#[test]
fn an_older_data_plane_that_comes_back_has_the_version_before_as_it_had() {
    let publisher = newer();
    let first = change("p", &plugin("1"), false);
    publisher.publish([first.clone()], 0);
    let mut new = new_one(&publisher);
    let mut old = old_one(&publisher);
    old.sync();
    new.sync();
    publisher.publish([change("p", &plugin("2"), true)], 0);
    old.sync();
    new.sync();
    for _ in 0..2 {
        let replica = std::mem::take(&mut old.replica);
        drop(old);
        let programmed = publisher.programmed([&id(Kind::Plugin, "p")]);
        assert_eq!(programmed, Programmed::Yes, "it is not there");
        old = Client::connect(&publisher, replica);
        old.sync();
        assert_eq!(old.replica.digest(), digest([&first]));
        assert_eq!(
            publisher.programmed([&id(Kind::Plugin, "p")]),
            too_old(ALLOW)
        );
    }
}

#[test]
fn without_a_version_before_a_route_answers_500_and_all_else_is_not_there() {
    let publisher = newer();
    let all = [
        change("p", &plugin("1"), true),
        change("r", &route(Match::any(), "x"), true),
    ];
    publisher.publish(all, 0);
    let mut old = old_one(&publisher);
    old.sync();
    let closed = change("r", &route(Match::any(), "plugin_error"), false);
    assert_eq!(old.replica.digest(), digest([&closed]));
    for id in [id(Kind::Plugin, "p"), id(Kind::Route, "r")] {
        assert_eq!(publisher.programmed([&id]), too_old(ALLOW));
    }
}

/// A rule whose match is not understood would answer 500 to the requests of others.
#[test]
fn a_route_whose_matches_are_not_understood_takes_no_requests_of_others() {
    let publisher = newer();
    let mut matches = Match::any();
    matches.headers = vec![HeaderMatch {
        name: "x".into(),
        value: ValueMatch::Present,
    }];
    publisher.publish([change("r", &route(matches, "x"), false)], 0);
    let mut old = old_one(&publisher);
    assert_eq!(old.sync(), 1);
    assert!(old.replica.is_empty());
    let programmed = publisher.programmed([&id(Kind::Route, "r")]);
    assert_eq!(programmed, too_old("header-match"));
}

/// Without a Tenant its hosts are anybody's.
#[test]
fn without_a_tenant_that_it_understands_an_older_data_plane_is_told_nothing() {
    let tenant = Tenant {
        origin: ObjectRef::new("Tenant", "", "t"),
        hosts: vec![HostPattern::Exact("a.test".into())],
    };
    let publisher = newer();
    let other = |settings| change("other", &plugin(settings), false);
    publisher.publish([change("t", &tenant, true), other("1")], 0);
    let mut old = old_one(&publisher);
    assert_eq!(old.sync(), 0);
    let programmed = |kind, key| publisher.programmed([&id(kind, key)]);
    assert_eq!(programmed(Kind::Tenant, "t"), too_old(ALLOW));
    publisher.publish([other("2")], 0);
    assert_eq!(old.sync(), 0);
    assert_eq!(programmed(Kind::Plugin, "other"), Programmed::Pending);
    // One that it understands is the way out; later ones find it as the version before.
    publisher.publish([change("t", &tenant, false)], 0);
    assert_eq!(old.sync(), 1);
    publisher.publish([change("t", &tenant, true), other("3")], 0);
    assert_eq!(old.sync(), 1);
    let expected = [change("t", &tenant, false), other("3")];
    assert_eq!(old.replica.digest(), digest(&expected));
}

/// As after a downgrade, with the last-good copy of the build before.
#[test]
fn an_older_data_plane_that_holds_what_it_does_not_understand_is_given_everything_anew() {
    let publisher = newer();
    let first = change("p", &plugin("1"), false);
    publisher.publish([first.clone()], 0);
    publisher.publish([change("p", &plugin("2"), true)], 0);
    let mut new = new_one(&publisher);
    new.sync();
    let held = std::mem::take(&mut new.replica);
    assert_eq!(held.digest(), publisher.cursor().digest);
    drop(new);
    let mut old = Client::connect(&publisher, held);
    let chunks = old.session.next_chunks().unwrap();
    assert!(chunks[0].full);
    let requires = chunks.iter().flat_map(|c| &c.upsert).map(|r| &r.requires);
    assert_eq!(requires.map(Vec::len).collect::<Vec<_>>(), [0]);
    old.take(chunks);
    assert_eq!(old.replica.digest(), digest([&first]));

    // The same, where nothing is known of what it holds.
    let publisher = newer();
    let all = || {
        [
            change("p", &plugin("2"), true),
            change("q", &plugin("1"), false),
        ]
    };
    publisher.publish(all(), 0);
    let mut new = new_one(&publisher);
    new.sync();
    let another = newer();
    let mut old = Client::connect(&another, std::mem::take(&mut new.replica));
    another.publish(all(), 0);
    old.sync();
    assert_eq!(old.replica.digest(), digest([&all()[1]]));
}

/// The words of a data plane that refuses the version that it is given instead do not open it what is withheld.
#[test]
fn what_is_refused_in_place_of_what_is_withheld_leads_to_nothing_newer() {
    let publisher = newer();
    let first = change("r", &route(Match::any(), "x"), false);
    publisher.publish([first.clone()], 0);
    let mut new = new_one(&publisher);
    new.sync();
    publisher.publish([change("r", &route(Match::any(), "y"), true)], 0);
    new.sync();
    let mut old = old_one(&publisher);
    old.refuses.extend(first.1);
    assert_eq!(old.sync(), 2);
    let closed = change("r", &route(Match::any(), "plugin_error"), false);
    assert_eq!(old.replica.digest(), digest([&closed]));
    assert_eq!(new.sync(), 0, "it is not held back from others");
    assert_eq!(new.replica.digest(), publisher.cursor().digest);
}

/// Also of what stands in for something, a data plane and its last-good copy know what it takes to read it.
#[test]
fn what_stands_in_says_what_it_requires() {
    let publisher = newer();
    publisher.publish([change("p", &plugin("1"), true)], 0);
    let mut one = new_one(&publisher);
    one.sync();
    publisher.publish([change("p", &plugin("2"), true)], 0);
    let mut other = new_one(&publisher);
    let transaction = other.session.next_chunks().unwrap()[0].transaction;
    other.refuse(transaction, Kind::Plugin as u32, "p");
    let chunks = other.session.next_chunks().unwrap();
    assert_eq!(chunks[0].upsert[0].requires, [ALLOW]);
    other.take(chunks);
    let first = change("p", &plugin("1"), true);
    assert_eq!(other.replica.digest(), digest([&first]));
}

/// While controllers are upgraded: the older one knows nothing of what is new.
#[test]
fn controllers_of_two_builds_send_a_data_plane_that_goes_between_them_nothing() {
    let all = || (0..100).map(|n| change(&format!("p{n}"), &plugin("1"), false));
    let (older, newer) = (Publisher::new("older"), newer());
    older.publish(all(), 0);
    newer.publish(all(), 0);
    let mut client = old_one(&older);
    client.sync();
    for publisher in [&newer, &older, &newer] {
        client = Client::connect(publisher, client.replica);
        assert_eq!(client.sync(), 0);
        let programmed = publisher.programmed([&id(Kind::Plugin, "p1")]);
        assert_eq!(programmed, Programmed::Yes);
    }
}

#[test]
fn replicas_tell_each_other_which_data_plane_is_too_old() {
    let (here, there) = (newer(), newer());
    for publisher in [&here, &there] {
        publisher.publish([change("p", &plugin("1"), true)], 0);
    }
    let mut new = new_one(&here);
    new.sync();
    let mut old = old_one(&there);
    old.sync();
    let from = ReplicaStream {
        replica: "there".into(),
        number: 1,
        is_same_build: true,
    };
    let mut teller = Teller::new(&there, "g", None);
    let mut tell = || {
        for state in teller.news() {
            here.hear(&from, state, false);
        }
        here.programmed([&id(Kind::Plugin, "p")])
    };
    assert_eq!(tell(), too_old(ALLOW));
    drop(old);
    assert_eq!(tell(), Programmed::Yes);
}
