//! Steps 7 to 11 of the pipeline: the body's cap, the body itself where a plugin needs it, and `pre_request`.

use super::Proxy;
use super::due::Due;
use super::exchange::RequestStage;
use super::fail::{self, Failure};
use super::tap::{Why, verdict};
use crate::engine::{Down, DownExt, DownFault, Exchange, Framing, Pace, PaceLimits, RequestHead};
use crate::table::Rule;
use bytes::{Bytes, BytesMut};
use model::{AcceptedCodings, Stage};
use plugins::Side;
use std::net::SocketAddr;
use tokio::time::Instant;

/// Why a request is not forwarded.
pub(super) enum Stop {
    Answer(Why),
    /// The client is gone.
    Gone,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Answer(Why::Failure(failure))
    }
}

impl Proxy {
    /// The whole body, where it was read.
    pub(super) async fn before<D: Down>(
        &self,
        x: &mut Exchange<'_, D>,
        rule: &Rule,
        client: SocketAddr,
        due: Due,
    ) -> Result<Option<Bytes>, Stop> {
        if let Framing::Length(length) = x.request.framing
            && length > rule.max_request_body()
        {
            return Err(fail::REQUEST_TOO_LARGE.into());
        }
        let chain = rule.chain();
        if chain.asks_codings() {
            x.request.accepts = AcceptedCodings::of(&x.request.headers);
        }
        let mut body = None;
        if let Some(max) = chain.buffers(Side::Request) {
            let max = max.min(rule.max_request_body());
            body = Some(read_whole(x.down, x.request, max, due).await?);
        }
        if !chain.is_empty(Stage::PreRequest) {
            let mut stage = RequestStage {
                request: x.request,
                client,
                body: body.as_ref(),
            };
            verdict(chain.run(Stage::PreRequest, &mut stage, false).await).map_err(Stop::Answer)?;
        }
        if chain.streams(Side::Request) && x.request.framing != Framing::Empty {
            x.request.framing = Framing::Chunked;
        }
        Ok(body)
    }
}

/// The whole body of a request that a plugin judges before it goes on.
async fn read_whole<D: Down>(
    down: &mut D,
    request: &mut RequestHead,
    max: u64,
    request_due: Due,
) -> Result<Bytes, Stop> {
    let too_large = || Stop::from(fail::REQUEST_TOO_LARGE);
    if matches!(request.framing, Framing::Length(length) if length > max) {
        return Err(too_large());
    }
    if request.framing == Framing::Empty {
        return Ok(Bytes::new());
    }
    down.send_continue(request);
    let gone = |fault| match fault {
        DownFault::Closed => Stop::Gone,
        // As where the body is passed on.
        DownFault::Timeout if request_due.is_over() => fail::UPSTREAM_TIMEOUT.into(),
        DownFault::Timeout => fail::REQUEST_TIMEOUT.into(),
        DownFault::Reject(reject) => Failure::from(reject).into(),
    };
    down.flush().await.map_err(gone)?;
    let mut whole = BytesMut::new();
    let limits = PaceLimits::default();
    let mut pace = Pace::new(&limits, Instant::now(), 0);
    let earlier = |paced: Instant| request_due.at.map_or(paced, |at| at.min(paced));
    let mut due = earlier(pace.due(&limits, Instant::now(), 0));
    while let Some(data) = down.read_body(due).await.map_err(gone)? {
        if (whole.len() + data.len()) as u64 > max {
            return Err(too_large());
        }
        whole.extend_from_slice(&data);
        due = earlier(pace.due(&limits, Instant::now(), whole.len() as u64));
    }
    Ok(whole.freeze())
}
