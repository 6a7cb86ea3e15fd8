//! The life of a client's HTTP/2 connection: streams into a service, all within the connection's task.

use super::down::{H2Down, Kind};
use super::head;
use super::watch::{Violation, Watch, Watched};
use crate::engine::buffers::{self, Scratch};
use crate::engine::conn::{Allowance, ConnConfig, ConnInfo, Event, Exchange, Outcome, Service};
use crate::engine::deadline::Timer;
use crate::engine::down::QUIET;
use crate::engine::drain::Ticket;
use crate::engine::io::Socket;
use crate::engine::pingora::{self, H2Options, Transport};
use crate::engine::sanitize;
use crate::engine::traits::{Down, DownExt};
use crate::h1::chunked::TrailerNames;
use crate::h1::{HeadLimits, Reject};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Request;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// Streams that a client may have open.
const STREAMS: u32 = 100;
/// Exchanges of one connection, those included whose stream the client has reset but which have not noticed yet.
const EXCHANGES: usize = 128;
/// What a client may send over all streams before it is told that we have taken it. One stream has the protocol's
/// 64 KiB.
const WINDOW: u32 = 1 << 20;
/// What the frames in that window may cost beside their bytes. The crate counts what each that we have not taken yet lacks to
/// 256 bytes, and ends the connection where that is too much: messages of gRPC may be small, and an upstream that takes
/// none for a while is not the client's fault. Four streams' windows full of frames of 15 bytes.
const OVERHEAD: usize = 4 << 20;
/// What the crate may hold of one stream's answer beyond what the socket takes.
const SEND_BUFFER: usize = 32 << 10;
/// Streams that a client may reset before they are accepted.
const RESETS_UNACCEPTED: usize = 20;
/// Resets of ours for errors of the client, over the connection's life.
const OWN_RESETS: usize = 500;
/// Streams that a client may reset before their answer, over the connection's life, beside a quarter of those that it
/// let come to their end.
const CANCELLED: u32 = 50;
/// Requests that the edge gate may refuse, likewise.
const REJECTED: u32 = 100;

/// Serves one connection to its end. `ahead` has been read from it before.
pub(in crate::engine) async fn serve<S: Socket + Send + Sync, V: Service>(
    socket: S,
    ahead: BytesMut,
    info: &ConnInfo,
    service: &V,
    config: &ConnConfig,
    ticket: Ticket,
) {
    let watch = Arc::new(Watch::default());
    let stream = Transport::stream(Watched::new(socket, ahead, watch.clone()));
    let mut timer = Timer::default();
    let accepted = pingora::accept(stream, |options| set(options, &config.head));
    let Ok(Ok(connection)) = timer.within(config.timeouts.header, accepted).await else {
        return;
    };
    timer.disarm();
    let mut server = Server {
        connection: Some(connection),
        watch,
        timer,
        waiting: Waiting::Nothing,
        taken: 0,
        ticket,
        config,
        allowance: config.allowance(info),
        tally: Tally::default(),
        ending: false,
        cut: false,
    };
    let trust = service.trusts_forwarded(info);
    let mut exchanges = FuturesUnordered::new();
    poll_fn(|cx| {
        server.watch.gather();
        loop {
            let mut moved = false;
            match server.poll_stream(cx, service) {
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Ready(Some((request, mut respond))) => {
                    moved = true;
                    if exchanges.len() >= EXCHANGES {
                        respond.send_reset(Reason::REFUSED_STREAM);
                    } else if respond.poll_reset(cx).is_ready() {
                        server.tally.cancelled += 1;
                    } else {
                        let exchange = exchange(request, respond, info, service, trust, config);
                        // In a box it is moved once; the set would move it with its own record again.
                        exchanges.push(Box::pin(exchange));
                    }
                }
                Poll::Pending => {}
            }
            while let Poll::Ready(Some(end)) = exchanges.poll_next_unpin(cx) {
                moved = true;
                server.tally.note(end);
            }
            moved |= server.judge(service);
            if moved {
                server.watch.gather();
                continue;
            }
            if server.watch.release() {
                // One more pass, which writes what the others have left.
                continue;
            }
            match server.poll_deadline(cx, exchanges.is_empty(), service) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Due::Drop) => return Poll::Ready(()),
                Poll::Ready(Due::Write) => {}
            }
        }
    })
    .await;
    // The streams learn that their connection is gone; each exchange accounts for itself.
    server.connection = None;
    while exchanges.next().await.is_some() {}
    server.count_resets(service);
}

/// What we offer, on top of pingora's bounded defaults.
fn set(options: &mut H2Options, limits: &HeadLimits) {
    // Which counts 32 bytes more for each field (RFC 9113 section 6.5.2), about what it costs as an entry of a map.
    let list = u32::try_from(limits.bytes).unwrap_or(u32::MAX);
    options
        .max_header_list_size(list)
        .max_concurrent_streams(STREAMS)
        .enable_connect_protocol()
        .max_frame_size(16 << 10)
        .initial_connection_window_size(WINDOW)
        .data_frame_budget(OVERHEAD)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS_UNACCEPTED)
        .max_local_error_reset_streams(Some(OWN_RESETS));
}

/// How an exchange ended, as far as the connection's budgets are concerned.
#[derive(Clone, Copy)]
enum Ended {
    Well,
    /// The client reset it before its answer began.
    Cancelled,
    /// The edge gate refused it.
    Rejected,
}

#[derive(Default)]
struct Tally {
    well: u32,
    cancelled: u32,
    rejected: u32,
}

impl Tally {
    fn note(&mut self, end: Ended) {
        match end {
            Ended::Well => self.well = self.well.saturating_add(1),
            Ended::Cancelled => self.cancelled += 1,
            Ended::Rejected => self.rejected += 1,
        }
    }

    fn is_abuse(&self) -> bool {
        let earned = self.well / 4;
        self.cancelled > CANCELLED + earned || self.rejected > REJECTED + earned
    }
}

/// What to do when the connection's deadline has passed.
enum Due {
    /// Write what was queued.
    Write,
    /// Drop the connection.
    Drop,
}

/// What the connection's deadline is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Nothing,
    /// The client's settings, or the rest of a header block.
    Header,
    /// A client that takes nothing: its socket is full, or all is done but what its windows keep back.
    Taking,
    /// A next request.
    Idle,
    /// The same while memory is short.
    Hurried,
    /// A client that has been told of the end and has no stream left.
    Leaving,
    /// The other side's end, after ours.
    Closing,
}

struct Server<'a> {
    /// Until it has ended.
    connection: Option<pingora::H2Connection>,
    watch: Arc<Watch>,
    timer: Timer,
    waiting: Waiting,
    /// What the client had taken when [`Waiting::Taking`] began, or was last looked at.
    taken: u64,
    ticket: Ticket,
    config: &'a ConnConfig,
    allowance: Allowance,
    tally: Tally,
    /// The client has been told to open no further streams.
    ending: bool,
    /// The connection ends whatever is open on it.
    cut: bool,
}

impl Server<'_> {
    /// Drives the connection; the next stream, or `None` at its end.
    #[allow(clippy::type_complexity, reason = "what the crate gives")]
    fn poll_stream<V: Service>(
        &mut self,
        cx: &mut Context<'_>,
        service: &V,
    ) -> Poll<Option<(Request<RecvStream>, SendResponse<Bytes>)>> {
        if !self.ending && self.ticket.poll(cx) {
            self.end();
        }
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(None);
        };
        connection.poll_accept(cx).map(|next| {
            let stream = match next? {
                Ok(stream) => stream,
                Err(error) => {
                    // What the crate bounds itself: header blocks without end, streams that are reset before they begin.
                    let calm = error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
                    if calm && !self.cut && !error.is_remote() {
                        service.note(Event::H2Budget);
                    }
                    return None;
                }
            };
            if self.allowance.take(service) && !self.ending {
                self.end();
            }
            Some(stream)
        })
    }

    /// Tells the client to open no further streams; those that are open come to their end.
    fn end(&mut self) {
        self.ending = true;
        if let Some(connection) = &mut self.connection {
            connection.graceful_shutdown();
        }
    }

    /// Ends the connection with all that is open on it.
    fn cut(&mut self, reason: Reason) {
        self.cut = true;
        self.ending = true;
        if let Some(connection) = &mut self.connection {
            connection.abrupt_shutdown(reason);
        }
    }

    /// Ends the connection of a client that has used up a budget; whether it did.
    fn judge<V: Service>(&mut self, service: &V) -> bool {
        self.count_resets(service);
        if self.cut {
            return false;
        }
        let reason = match self.watch.violation() {
            Some(Violation::Preface) => Reason::PROTOCOL_ERROR,
            Some(Violation::Flood) => Reason::ENHANCE_YOUR_CALM,
            None if self.tally.is_abuse() => Reason::ENHANCE_YOUR_CALM,
            None => return false,
        };
        if reason == Reason::ENHANCE_YOUR_CALM {
            service.note(Event::H2Budget);
        }
        self.cut(reason);
        true
    }

    fn count_resets<V: Service>(&self, service: &V) {
        let (client, us) = self.watch.take_resets();
        if client + us > 0 {
            service.note(Event::H2Resets { client, us });
        }
    }

    /// Waits for the deadline of what the connection waits for.
    fn poll_deadline<V: Service>(
        &mut self,
        cx: &mut Context<'_>,
        quiet: bool,
        service: &V,
    ) -> Poll<Due> {
        let timeouts = &self.config.timeouts;
        let streams = self.connection.as_ref().is_some_and(|c| c.has_streams());
        let (waiting, limit) = if self.cut || self.watch.is_closing() {
            (Waiting::Closing, timeouts.linger)
        } else if !self.watch.has_settings() || self.watch.in_block() {
            (Waiting::Header, timeouts.header)
        } else if self.watch.is_blocked() || quiet && streams {
            // Each exchange has its patience by itself; this is for what is left of those that have lost it.
            (Waiting::Taking, timeouts.body * 2)
        } else if !quiet {
            (Waiting::Nothing, Duration::ZERO)
        } else if self.ending {
            (Waiting::Leaving, timeouts.drain)
        } else if self.ticket.is_hurried() {
            (Waiting::Hurried, timeouts.idle.min(QUIET))
        } else {
            (Waiting::Idle, timeouts.idle)
        };
        if waiting != self.waiting {
            self.waiting = waiting;
            match waiting {
                Waiting::Nothing => self.timer.disarm(),
                _ => self.timer.arm(Instant::now() + limit),
            }
            self.taken = self.watch.taken();
        }
        ready!(self.timer.poll(cx));
        while waiting == Waiting::Taking && self.taken != self.watch.taken() {
            self.taken = self.watch.taken();
            self.timer.arm(Instant::now() + limit);
            ready!(self.timer.poll(cx));
        }
        match waiting {
            Waiting::Idle | Waiting::Hurried => self.end(),
            Waiting::Header => {
                service.note(Event::H2Budget);
                self.cut(Reason::ENHANCE_YOUR_CALM);
            }
            Waiting::Taking => {
                service.note(Event::H2Budget);
                return Poll::Ready(Due::Drop);
            }
            Waiting::Nothing | Waiting::Leaving | Waiting::Closing => {
                return Poll::Ready(Due::Drop);
            }
        }
        Poll::Ready(Due::Write)
    }
}

/// Serves one stream.
async fn exchange<V: Service>(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    info: &ConnInfo,
    service: &V,
    trust: bool,
    config: &ConnConfig,
) -> Ended {
    let (parts, body) = request.into_parts();
    let mut scratch = buffers::take_scratch();
    let Scratch { request, answer } = &mut *scratch;
    let ended = body.is_end_stream();
    let read = head::read(&parts, ended, &config.head, &config.edge, request);
    let kind = Kind::of(&parts.method);
    drop(parts);
    let names = TrailerNames::of_requests(read.unwrap_or_default().underscores);
    let mut down = H2Down::new(body, respond, kind, names, &config.timeouts);
    let outcome = match read {
        Err(reject) => Outcome::Reject(reject),
        Ok(_) => {
            sanitize::client_headers(&mut request.headers, trust);
            request.secure = info.tls.is_some();
            let exchange = Exchange {
                conn: info,
                request,
                answer,
                down: &mut down,
            };
            // A panic ends this exchange and nothing else.
            AssertUnwindSafe(service.serve(exchange))
                .catch_unwind()
                .await
                .unwrap_or(Outcome::Reject(Reject::internal_error(
                    "panic in a request",
                )))
        }
    };
    let reject = match outcome {
        Outcome::Close => None,
        _ if down.answered().is_some() => None,
        Outcome::Done => Some(Reject::internal_error(
            "service left a request without answer",
        )),
        Outcome::Reject(reject) => Some(reject),
    };
    if let Some(reject) = reject {
        answer.reset(reject.status);
        let body = service.refuse(info, &reject, answer);
        // The stream ends in any case.
        let _ = down.respond(answer, body).await;
    }
    buffers::put_scratch(scratch);
    let end = match outcome {
        _ if down.is_gone() && down.answered().is_none() => Ended::Cancelled,
        Outcome::Reject(reject) if reject.status < 500 => Ended::Rejected,
        _ => Ended::Well,
    };
    down.finish();
    end
}
