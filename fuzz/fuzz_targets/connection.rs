//! Whole connections, with hyper and pingora-core as other readers of the same bytes: where both have read a request, it
//! is the same request.
#![no_main]

use bytes::Bytes;
use dataplane::engine::sanitize;
use diolkos_fuzz::{Reading, Script, run, serve};
use http_body_util::{BodyExt, Empty};
use libfuzzer_sys::fuzz_target;
use model::EscapedSlashes;
use std::cell::RefCell;
use std::convert::Infallible;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// The target in our normal form, as far as it has one.
fn normal(target: &str) -> Option<String> {
    let rest = target
        .strip_prefix("http://")
        .or_else(|| target.strip_prefix("https://"))
        .map(|after| after.find(['/', '?']).map_or("", |at| &after[at..]));
    let text = match rest {
        None => target.to_owned(),
        Some(rest) if rest.starts_with('/') => rest.to_owned(),
        Some(rest) => format!("/{rest}"),
    };
    if text == "*" {
        return Some(text);
    }
    let (path, query) = text
        .split_once('?')
        .map_or((&*text, None), |(p, q)| (p, Some(q)));
    let mut out = String::new();
    sanitize::path(path.as_bytes(), EscapedSlashes::Reject, &mut out).ok()?;
    if let Some(query) = query {
        out.push('?');
        out.push_str(query);
    }
    Some(out)
}

/// What hyper reads.
async fn hyper_reads(bytes: &[u8]) -> Vec<Reading> {
    let readings = RefCell::new(Vec::new());
    let service = hyper::service::service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let readings = &readings;
        async move {
            let (head, body) = request.into_parts();
            if let Ok(body) = body.collect().await {
                readings.borrow_mut().push(Reading {
                    method: head.method.to_string(),
                    target: head.uri.to_string(),
                    body: body.to_bytes().to_vec(),
                });
            }
            Ok::<_, Infallible>(hyper::Response::new(Empty::<Bytes>::new()))
        }
    });
    let io = hyper_util::rt::TokioIo::new(Script::new(bytes, bytes.len()));
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
    // hyper would wait for ever for what does not come.
    let _ = tokio::time::timeout(Duration::from_secs(1), connection).await;
    readings.into_inner()
}

/// What pingora-core reads of the first request.
async fn pingora_reads(bytes: &[u8]) -> Option<Reading> {
    let (mut client, server) = tokio::io::duplex(bytes.len().max(1) + 65536);
    client.write_all(bytes).await.ok()?;
    client.shutdown().await.ok()?;
    let mut session = pingora_core::protocols::http::v1::server::HttpSession::new(Box::new(server));
    session.read_request().await.ok()??;
    let head = session.req_header();
    let mut reading = Reading {
        method: head.method.to_string(),
        target: String::from_utf8_lossy(head.raw_path()).into_owned(),
        body: Vec::new(),
    };
    while let Some(piece) = session.read_body_bytes().await.ok()? {
        reading.body.extend_from_slice(&piece);
    }
    Some(reading)
}

fn same(ours: &Reading, theirs: &Reading, bytes: &[u8]) {
    // Targets without a normal form in our sense never come to a backend.
    let target = normal(&theirs.target);
    assert!(
        ours.method == theirs.method
            && ours.body == theirs.body
            && target.is_none_or(|t| t == ours.target),
        "two readings of {:?}:\n{ours:?}\n{theirs:?}",
        String::from_utf8_lossy(bytes)
    );
}

fuzz_target!(|input: (u8, &[u8])| {
    let (at_once, bytes) = input;
    if bytes.starts_with(b"PRI * HTTP/2.0") {
        return;
    }
    let ours = serve(bytes, bytes.len());
    assert_eq!(
        ours,
        serve(bytes, usize::from(at_once)),
        "pieces make a difference"
    );
    if ours.is_empty() {
        return;
    }
    for (ours, theirs) in ours.iter().zip(&run(hyper_reads(bytes))) {
        same(ours, theirs, bytes);
    }
    if let Some(theirs) = run(pingora_reads(bytes)) {
        same(&ours[0], &theirs, bytes);
    }
});
