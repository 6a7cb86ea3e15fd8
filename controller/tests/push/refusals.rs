//! A data plane refuses far more than one message takes, as if its build knew none of what the controller sends.

use super::push::{change, key};
use dataplane::app::{Config, DataPlane};
use dataplane::listeners::Binds;
use dataplane::push::{Apply, Reply};
use diolkos_controller::publish::{Publisher, Session};
use diolkos_controller::report::Programmed;
use prost::Message as _;
use snapshot::pb::client_message::Message;
use snapshot::pb::{ClientMessage, Hello};
use snapshot::{Kind, SCHEMA};
use std::sync::Arc;
use tokio::runtime::Runtime;

const REFUSED: usize = 4000;
/// What a controller reads of one message.
const READ: usize = 1 << 20;

/// One of a type that no data plane knows.
fn plugin(number: usize) -> model::Plugin {
    model::Plugin {
        origin: model::ObjectRef::new("Plugin", "a", format!("{number:0>200}")),
        name: "later".into(),
        kind: "Later\n".repeat(200),
        stage: None,
        priority: 100,
        parallel: false,
        failure_policy: model::FailurePolicy::Fail,
        run_on_local_reply: false,
        settings: "{}".into(),
    }
}

#[test]
fn thousands_of_refusals_come_in_answers_that_are_read_and_the_rest_goes_on() {
    let publisher = Publisher::new("s");
    let refused = (0..REFUSED).map(|number| {
        let body = snapshot::encode(&plugin(number)).unwrap();
        let key = format!("Plugin/a/{number:0>200}");
        ((Kind::Plugin, key.into()), Some(body.into()))
    });
    publisher.publish(refused.chain([change("good", 1)]), 0);

    let runtime = Runtime::new().unwrap();
    let config = Config {
        threads: 1,
        binds: Binds {
            http: None,
            https: None,
        },
        zone: None,
        per_source: 0,
        sessions: 0,
        memory_limit: Some(0),
        name_servers: Vec::new(),
    };
    let (plane, mut applier) = DataPlane::start(&config, runtime.handle()).unwrap();
    let mut session = Session::new(Arc::clone(&publisher));
    let hello = Hello {
        schema_min: SCHEMA,
        schema_max: SCHEMA,
        ..Hello::default()
    };
    session.on_hello(&hello).unwrap();
    let mut answers = 0;
    while let Some(chunks) = session.next_chunks() {
        let before = publisher.rejections().len();
        let mut replies = chunks.into_iter().map(|chunk| applier.receive(chunk));
        let reply = replies.find(|reply| !matches!(reply, Reply::More));
        let message = match reply {
            Some(Reply::Ack(ack)) => Message::Ack(ack),
            Some(Reply::Nack(nack)) => Message::Nack(nack),
            other => panic!("{other:?}"),
        };
        let message = ClientMessage {
            message: Some(message),
        };
        let bytes = message.encoded_len();
        assert!(bytes < READ, "an answer of {bytes} bytes");
        let is_refusal = matches!(message.message, Some(Message::Nack(_)));
        session.on_message(message).unwrap();
        let known = publisher.rejections().len();
        assert!(known > before || !is_refusal, "it goes round in circles");
        answers += 1;
    }
    assert!(answers > 2, "{answers} answers");
    assert_eq!(publisher.rejections().len(), REFUSED);
    for (_, reason) in publisher.rejections() {
        assert!(reason.len() <= 1024 && !reason.contains('\n'), "{reason}");
    }
    assert_eq!(publisher.programmed([&key("good")]), Programmed::Yes);
    plane.kill();
}
