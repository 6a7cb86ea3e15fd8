use super::*;
use crate::publish::tests::{Client, plugin};
use snapshot::Replica;

/// What another replica, and this one, read of one message.
const READ: usize = 1 << 20;

#[test]
fn thousands_that_are_refused_fit_into_one_message() {
    let publisher = Publisher::new("s");
    let all: Vec<_> = (0..5000)
        .map(|n| plugin(&format!("{n:0>200}"), "1"))
        .collect();
    publisher.publish(all.clone(), 0);
    let mut client = Client::connect(&publisher, Replica::default());
    let transaction = client.session.next_chunks().unwrap()[0].transaction;
    let rejected = all.iter().map(|((kind, key), _)| pb::Rejection {
        kind: *kind as u32,
        key: key.to_string(),
        reason: "is\nno é".repeat(1000),
    });
    let nack = pb::Nack {
        transaction,
        rejected: rejected.collect(),
        message: String::new(),
    };
    client.session.on_nack(&nack).unwrap();
    let rejections = publisher.rejections();
    assert_eq!(rejections.len(), all.len());
    for (_, reason) in rejections {
        assert!(reason.starts_with("is no é") && !reason.contains('\n'));
        assert!((REASON - 1..=REASON).contains(&reason.len()));
    }

    let news = Teller::new(&publisher, "g").news();
    let told = news.iter().filter_map(|state| state.quarantine.as_ref());
    assert!(told.map(|told| told.all.len()).sum::<usize>() > 300);
    for state in news {
        assert!(state.encoded_len() < READ, "{} bytes", state.encoded_len());
    }
}
