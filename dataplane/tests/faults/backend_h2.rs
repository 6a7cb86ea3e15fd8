//! The backend that misbehaves, over HTTP/2.

use super::backend::{Does, Line};
use super::message::hash;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Serves one connection until it ends.
pub async fn serve(
    name: &'static str,
    mut stream: TcpStream,
    mut told: watch::Receiver<Does>,
    line: &Line,
) -> io::Result<()> {
    if *not_paused(&mut told).await? == Does::Garbage {
        return stream.write_all(b"220 mail.test ESMTP\r\n").await;
    }
    let mut connection = h2::server::handshake(stream).await.map_err(of_h2)?;
    loop {
        let does = *not_paused(&mut told).await?;
        if does == Does::Garbage {
            // The next one begins with it.
            return Ok(());
        }
        tokio::select! {
            // While it is paused nothing is read.
            biased;
            changed = told.changed() => if changed.is_err() { return Ok(()) },
            accepted = connection.accept() => {
                let Some(accepted) = accepted else { return Ok(()) };
                let (request, respond) = accepted.map_err(of_h2)?;
                match does {
                    Does::ResetInHead => {
                        line.reset();
                        return Ok(());
                    }
                    _ => tokio::spawn(exchange(name, request, respond, told.clone())),
                };
            }
        }
    }
}

async fn not_paused(told: &mut watch::Receiver<Does>) -> io::Result<watch::Ref<'_, Does>> {
    let told = told.wait_for(|does| *does != Does::Paused).await;
    told.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

fn of_h2(error: h2::Error) -> io::Error {
    io::Error::other(error)
}

/// One stream. Errors are those of a client that has gone.
async fn exchange(
    name: &'static str,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    mut told: watch::Receiver<Does>,
) -> Result<(), h2::Error> {
    let (head, mut incoming) = request.into_parts();
    let mut received = Vec::new();
    while let Some(data) = incoming.data().await {
        let data = data?;
        incoming.flow_control().release_capacity(data.len())?;
        received.extend_from_slice(&data);
    }
    let does = *told.borrow_and_update();
    match does {
        Does::Silent => {
            tokio::select! {
                _ = told.wait_for(|does| *does != Does::Silent) => {}
                gone = std::future::poll_fn(|cx| respond.poll_reset(cx)) => { gone?; }
            }
        }
        Does::ResetBefore => {
            respond.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        }
        _ => {}
    }
    let is_stream = head.uri.path().contains("/events");
    let (kind, pieces) = answer(name, &head.headers, &received, is_stream);
    let response = Response::builder().header("content-type", kind);
    let mut out = respond.send_response(response.body(()).unwrap_or_default(), false)?;
    for piece in pieces {
        match does {
            Does::ResetInBody | Does::EndInBody => {
                out.send_data(
                    Bytes::copy_from_slice(&piece.as_bytes()[..piece.len() / 2]),
                    false,
                )?;
                // What was sent shall arrive: a reset overtakes what has not been read.
                tokio::time::sleep(Duration::from_millis(5)).await;
                let reason = match does {
                    Does::ResetInBody => Reason::INTERNAL_ERROR,
                    // As who has nothing more to say, and has not said the end.
                    _ => Reason::CANCEL,
                };
                out.send_reset(reason);
                return Ok(());
            }
            Does::Slow => {
                for byte in piece.bytes() {
                    out.send_data(Bytes::from(vec![byte]), false)?;
                    tokio::task::yield_now().await;
                }
            }
            _ => out.send_data(piece.into(), false)?,
        }
    }
    out.send_data(Bytes::new(), true)
}

/// Content type and body, in pieces.
fn answer(
    name: &str,
    fields: &HeaderMap,
    received: &[u8],
    is_stream: bool,
) -> (&'static str, Vec<String>) {
    let of = |name| {
        fields
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("-")
    };
    let (id, generation) = (of("x-id"), of("x-generation"));
    let body = format!("{id} {generation} {name} {}", hash(received));
    match is_stream {
        true => {
            let event = |n: usize| format!("data: {n} {body}\n\n");
            ("text/event-stream", (0..5).map(event).collect())
        }
        false => ("text/plain", vec![body]),
    }
}
