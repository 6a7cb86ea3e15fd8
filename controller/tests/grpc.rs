//! The push channel as it runs in a cluster: the controller's server and the data plane's client over mutual TLS.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, unreachable_pub, reason = "other tests use the rest of it")]
#[path = "../../dataplane/tests/support/logs.rs"]
mod logs;
mod push;
#[path = "push/refusals.rs"]
mod refusals;
#[path = "push/replicas.rs"]
mod replicas;
#[path = "push/shared_health.rs"]
mod shared_health;
#[path = "push/skew.rs"]
mod skew;

use std::time::SystemTime;

use diolkos_controller::ca::authority::Authority;
use push::{Applied, Controller, GROUP, Plane, change, key, mounted, next};
use snapshot::pb::snapshot_service_client::SnapshotServiceClient;
use snapshot::pb::{ClientMessage, Hello, client_message::Message, server_message};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

fn now() -> SystemTime {
    SystemTime::now()
}

fn client_data(authority: &Authority) -> tempfile::TempDir {
    mounted(&authority.client_data(GROUP, now()).unwrap())
}

#[tokio::test]
async fn everything_first_then_what_changes() {
    let authority = Authority::generate(now()).unwrap();
    let controller = Controller::start(&authority).await;
    controller
        .publisher
        .publish([change("a", 1), change("b", 1)], 0);
    let (plane, mut applied) = Plane::new();
    let certificates = client_data(&authority);
    let following = plane.follow(
        controller.endpoint(),
        certificates.path(),
        &CancellationToken::new(),
    );
    assert_eq!(
        next(&mut applied).await,
        Applied {
            full: true,
            upserts: 2,
            removes: 0
        }
    );
    let current = controller.until_current().await;
    assert_eq!(
        (current.node_id.as_str(), current.draining),
        ("plane-0", false)
    );

    controller.publisher.publish([change("b", 2)], 0);
    assert_eq!(
        next(&mut applied).await,
        Applied {
            full: false,
            upserts: 1,
            removes: 0
        }
    );
    controller.until_current().await;
    controller.publisher.publish([(key("a"), None)], 0);
    assert_eq!(
        next(&mut applied).await,
        Applied {
            full: false,
            upserts: 0,
            removes: 1
        }
    );
    controller.until_current().await;
    assert_eq!(plane.len(), 1);
    following.abort();
    controller.until(<[_]>::is_empty).await;
}

#[tokio::test]
async fn an_empty_configuration_is_one() {
    let authority = Authority::generate(now()).unwrap();
    let controller = Controller::start(&authority).await;
    controller.publisher.publish([], 0);
    let (plane, mut applied) = Plane::new();
    let certificates = client_data(&authority);
    let _following = plane.follow(
        controller.endpoint(),
        certificates.path(),
        &CancellationToken::new(),
    );
    assert_eq!(
        next(&mut applied).await,
        Applied {
            full: true,
            upserts: 0,
            removes: 0
        }
    );
}

#[tokio::test]
async fn a_transaction_of_many_chunks_takes_effect_as_one() {
    let authority = Authority::generate(now()).unwrap();
    let controller = Controller::start(&authority).await;
    let many = 20_000;
    controller
        .publisher
        .publish((0..many).map(|n| change(&n.to_string(), 1)), 0);
    assert!(controller.publisher.size().1 > model::limits::CHUNK_BYTES);
    let (plane, mut applied) = Plane::new();
    let certificates = client_data(&authority);
    let _following = plane.follow(
        controller.endpoint(),
        certificates.path(),
        &CancellationToken::new(),
    );
    assert_eq!(
        next(&mut applied).await,
        Applied {
            full: true,
            upserts: many,
            removes: 0
        }
    );
    controller.until_current().await;
}

#[tokio::test]
async fn a_refusal_is_laid_to_its_resource_and_the_others_go_on() {
    let authority = Authority::generate(now()).unwrap();
    let controller = Controller::start(&authority).await;
    controller
        .publisher
        .publish([change("good", 1), change("bad", 1)], 0);
    let (plane, mut applied) = Plane::new();
    let certificates = client_data(&authority);
    let _following = plane.follow(
        controller.endpoint(),
        certificates.path(),
        &CancellationToken::new(),
    );
    next(&mut applied).await;
    controller.until_current().await;

    plane.refuse("bad", 2);
    controller
        .publisher
        .publish([change("good", 2), change("bad", 2)], 0);
    // The good one comes through, and the bad one stays as it was accepted.
    assert_eq!(
        next(&mut applied).await,
        Applied {
            full: false,
            upserts: 2,
            removes: 0
        }
    );
    let rejections = controller.publisher.rejections();
    assert_eq!(rejections, [(key("bad"), "does not compile".to_owned())]);
    assert_eq!(plane.len(), 2);
    controller.until_current().await;
    let counted = controller
        .metrics
        .transactions
        .with_label_values(&["nack"])
        .get();
    assert_eq!(counted, 1);
}

#[tokio::test]
async fn a_data_plane_out_of_step_gets_everything() {
    let authority = Authority::generate(now()).unwrap();
    let controller = Controller::start(&authority).await;
    controller
        .publisher
        .publish([change("a", 1), change("b", 1)], 0);
    let (plane, mut applied) = Plane::new();
    let certificates = client_data(&authority);
    let _following = plane.follow(
        controller.endpoint(),
        certificates.path(),
        &CancellationToken::new(),
    );
    next(&mut applied).await;
    controller.until_current().await;

    plane.forget();
    controller.publisher.publish([change("b", 2)], 0);
    assert_eq!(
        next(&mut applied).await,
        Applied {
            full: true,
            upserts: 2,
            removes: 0
        }
    );
    controller.until_current().await;
    assert_eq!(
        controller
            .metrics
            .transactions
            .with_label_values(&["resync"])
            .get(),
        1
    );
}

#[tokio::test]
async fn who_holds_everything_is_sent_nothing() {
    let authority = Authority::generate(now()).unwrap();
    let controller = Controller::start(&authority).await;
    controller.publisher.publish([change("a", 1)], 0);
    let (plane, mut applied) = Plane::new();
    let certificates = client_data(&authority);
    let following = plane.follow(
        controller.endpoint(),
        certificates.path(),
        &CancellationToken::new(),
    );
    next(&mut applied).await;
    controller.until_current().await;
    let sent = controller.metrics.sent_bytes.get();

    // Another connection of the same data plane.
    following.abort();
    controller.until(<[_]>::is_empty).await;
    let following = plane.follow(
        controller.endpoint(),
        certificates.path(),
        &CancellationToken::new(),
    );
    controller.until_current().await;
    assert_eq!(controller.metrics.sent_bytes.get(), sent);

    // Another controller with the same configuration, at the same place.
    let address = controller.address;
    controller.stop().await;
    let second = Controller::start_at(&authority, address).await;
    second.publisher.publish([change("a", 1)], 0);
    second.until_current().await;
    assert_eq!(second.metrics.sent_bytes.get(), 0);

    // What changed meanwhile is all that is sent.
    second.publisher.publish([change("b", 1)], 0);
    assert_eq!(
        next(&mut applied).await,
        Applied {
            full: false,
            upserts: 1,
            removes: 0
        }
    );
    following.abort();
}

#[tokio::test]
async fn renewed_certificates_are_read_for_the_next_stream() {
    let authority = Authority::generate(now()).unwrap();
    let controller = Controller::start(&authority).await;
    controller.publisher.publish([change("a", 1)], 0);
    let (plane, mut applied) = Plane::new();
    // Files of another authority, as a data plane has them whose controller made a new one.
    let certificates = client_data(&Authority::generate(now()).unwrap());
    let _following = plane.follow(
        controller.endpoint(),
        certificates.path(),
        &CancellationToken::new(),
    );
    for (name, content) in authority.client_data(GROUP, now()).unwrap() {
        std::fs::write(certificates.path().join(name), content.0).unwrap();
    }
    next(&mut applied).await;
}

#[tokio::test]
async fn a_draining_data_plane_says_so_and_is_not_waited_for() {
    let authority = Authority::generate(now()).unwrap();
    let controller = Controller::start(&authority).await;
    controller.publisher.publish([change("a", 1)], 0);
    let (plane, mut applied) = Plane::new();
    let certificates = client_data(&authority);
    let draining = CancellationToken::new();
    let _following = plane.follow(controller.endpoint(), certificates.path(), &draining);
    next(&mut applied).await;
    draining.cancel();
    controller
        .until(|planes| matches!(planes, [p] if p.draining))
        .await;
    // It is served on: requests under way need it.
    controller.publisher.publish([change("a", 2)], 0);
    next(&mut applied).await;
}

/// A stream without the data plane's client.
async fn sync(
    controller: &Controller,
    tls: ClientTlsConfig,
) -> Result<tonic::Streaming<snapshot::pb::ServerMessage>, String> {
    let channel = Channel::from_shared(controller.endpoint())
        .unwrap()
        .tls_config(tls)
        .unwrap();
    let channel = channel
        .connect()
        .await
        .map_err(|e| format!("connect: {e:?}"))?;
    let hello = Hello {
        node_id: "x".into(),
        schema_min: 1,
        schema_max: 1,
        ..Hello::default()
    };
    let messages = tokio_stream::iter([ClientMessage {
        message: Some(Message::Hello(hello)),
    }]);
    let answer = SnapshotServiceClient::new(channel).sync(messages).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| match status.code() {
            Code::Unavailable if status.message().contains("listed") => "not ready".to_owned(),
            _ => format!("{status:?}"),
        })
}

fn trusting(authority: &Authority) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.bundle()))
}

fn showing(tls: ClientTlsConfig, of: &Authority, group: &str) -> ClientTlsConfig {
    let data = of.client_data(group, now()).unwrap();
    tls.identity(Identity::from_pem(&data["tls.crt"].0, &data["tls.key"].0))
}

#[tokio::test]
async fn only_certificates_of_the_group_are_let_in() {
    let authority = Authority::generate(now()).unwrap();
    let controller = Controller::start(&authority).await;
    controller.publisher.publish([change("a", 1)], 0);
    let ours = trusting(&authority);
    let mut stream = sync(&controller, showing(ours.clone(), &authority, GROUP))
        .await
        .unwrap();
    let first = stream.message().await.unwrap().unwrap().message;
    assert!(matches!(first, Some(server_message::Message::Welcome(_))));

    let without = sync(&controller, ours.clone()).await.unwrap_err();
    let stranger = Authority::generate(now()).unwrap();
    let foreign = sync(&controller, showing(ours.clone(), &stranger, GROUP))
        .await
        .unwrap_err();
    let other_group = sync(
        &controller,
        showing(ours.clone(), &authority, "other/diolkos-dataplane"),
    )
    .await
    .unwrap_err();
    for refusal in [&without, &foreign, &other_group] {
        assert_ne!(refusal, "not ready");
    }
    // One of a Gateway that is not there (yet) comes again later.
    assert!(other_group.contains("no such group"), "{other_group}");
    // The data plane does not talk to a stranger either.
    let impostor = sync(&controller, showing(trusting(&stranger), &authority, GROUP))
        .await
        .unwrap_err();
    assert!(impostor.starts_with("connect"), "{impostor}");
}

#[tokio::test]
async fn streams_are_refused_before_the_first_translation() {
    let authority = Authority::generate(now()).unwrap();
    let controller = Controller::start(&authority).await;
    let tls = showing(trusting(&authority), &authority, GROUP);
    assert_eq!(
        sync(&controller, tls.clone()).await.err().as_deref(),
        Some("not ready")
    );
    controller.publisher.publish([], 0);
    assert!(sync(&controller, tls).await.is_ok());
}
