//! Data planes of an older and of a newer build side by side, as while they are upgraded.

use super::push::{Applied, Controller, Plane, change, key, next};
use super::{client_data, now};
use bytes::Bytes;
use diolkos_controller::ca::authority::Authority;
use diolkos_controller::publish::ResourceId;
use diolkos_controller::report::Programmed;
use snapshot::{Capability, Digest, Hash, Kind};
use tokio_util::sync::CancellationToken;

/// A field that this build does not know (900, of one byte), as a newer one writes it.
const LATER: [u8; 4] = [0xa2, 0x38, 1, b'x'];

static NEWER: &[Capability] = &[Capability {
    name: "pinned-names",
    kind: Kind::Upstream,
    uses: |body| body.ends_with(&LATER),
}];

/// A version that says what a backend has to prove in a way that only the newer build knows.
fn newer(name: &str, port: u16) -> (ResourceId, Option<Bytes>) {
    let (id, body) = change(name, port);
    let body = body.map(|body| [&*body, &LATER].concat().into());
    (id, body)
}

fn digest(all: &[(ResourceId, Option<Bytes>)]) -> Digest {
    let mut digest = Digest::default();
    for ((kind, key), body) in all {
        digest.add(*kind as u32, key, Hash::of(body.as_ref().unwrap()));
    }
    digest
}

#[tokio::test]
async fn an_older_data_plane_beside_a_newer_one_keeps_what_it_had_until_nothing_needs_more() {
    let authority = Authority::generate(now()).unwrap();
    let controller = Controller::knowing(&authority, NEWER).await;
    let publisher = &controller.publisher;
    publisher.publish([change("a", 1), change("b", 1)], 0);
    let certificates = client_data(&authority);
    let draining = CancellationToken::new();
    let (new, mut by_new) = Plane::knowing("plane-new", NEWER);
    let (old, mut by_old) = Plane::named("plane-old");
    let _new = new.follow(controller.endpoint(), certificates.path(), &draining);
    next(&mut by_new).await;
    let following = old.follow(controller.endpoint(), certificates.path(), &draining);
    next(&mut by_old).await;
    controller.programmed("a", &Programmed::Yes).await;

    publisher.publish([newer("a", 2), change("b", 2)], 0);
    for applied in [&mut by_new, &mut by_old] {
        let both = Applied {
            full: false,
            upserts: 2,
            removes: 0,
        };
        assert_eq!(next(applied).await, both);
    }
    let words = "data plane plane-old is too old for it: it lacks the capability `pinned-names`";
    let too_old = Programmed::TooOld(words.to_owned());
    controller.programmed("a", &too_old).await;
    controller.programmed("b", &Programmed::Yes).await;
    assert_eq!(new.digest(), publisher.cursor().digest);
    let kept = digest(&[change("a", 1), change("b", 2)]);
    assert_eq!(old.digest(), kept);
    let rejections = publisher.rejections();
    assert_eq!(rejections.len(), 1);
    assert_eq!(rejections[0].0, key("a"));

    // It connects anew, as each does four times an hour.
    following.abort();
    controller.until(|planes| planes.len() == 1).await;
    controller.programmed("a", &Programmed::Yes).await;
    let following = old.follow(controller.endpoint(), certificates.path(), &draining);
    controller.programmed("a", &too_old).await;
    controller.programmed("b", &Programmed::Yes).await;
    assert_eq!(old.digest(), kept);

    // Nothing needs it any more.
    publisher.publish([change("a", 3)], 0);
    controller.programmed("a", &Programmed::Yes).await;
    assert_eq!(old.digest(), publisher.cursor().digest);

    // Or a newer one takes its place.
    publisher.publish([newer("a", 4)], 0);
    controller.programmed("a", &too_old).await;
    following.abort();
    controller.programmed("a", &Programmed::Yes).await;
}
