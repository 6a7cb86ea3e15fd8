//! What a rule does to the bodies and to the answer's head as they pass.

use super::affinity::SetCookie;
use super::exchange::{ResponseStage, request_view, show};
use super::fail::{self, Failure};
use super::mirror::Copies;
use super::retry::Retries;
use crate::engine::{Abort, BodyTap, Framing, Method, RequestHead, ResponseHead};
use crate::table::{Backend, Rule};
use bytes::Bytes;
use model::{HeaderEdits, Stage};
use plugins::{Chain, Filters, LocalReply, Outcome, Side};
use snapshot::Revision;
use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Stands between the two sides of the relay for one attempt.
pub(super) struct Tap<'a> {
    /// Of the rule, asked for once: while the answer is awaited the rule itself goes cold.
    chain: &'a Chain,
    response_headers: &'a HeaderEdits,
    backend: Backend<'a>,
    request: &'a RequestHead,
    client: SocketAddr,
    retries: &'a Retries<'a>,
    /// Goes with the answer.
    cookie: Option<SetCookie>,
    /// What the endpoint answered.
    status: Option<u16>,
    /// The answer is thrown away, and after so long the request is tried again.
    again: Option<Duration>,
    /// Bytes of the request's body that may still come.
    left: u64,
    request_filters: Option<Filters>,
    response_filters: Option<Filters>,
    /// The answer is collected as a whole and judged afterwards.
    collects: bool,
    /// Bytes of the answer that may still be collected; `None`: as many as come.
    collect_left: Option<u64>,
    stages: Option<Stages<'a>>,
    /// Copies of the request that wait for its body.
    copies: Option<&'a RefCell<Copies>>,
    why: Option<Why>,
    /// The revision that the client is told.
    shows: Option<Revision>,
}

/// The response stages at work on the head, which they own meanwhile.
type Stages<'a> = Pin<Box<dyn Future<Output = (ResponseHead, Result<Filters, Why>)> + 'a>>;

/// Why the tap stopped the exchange.
#[derive(Debug)]
pub(super) enum Why {
    Failure(Failure),
    Reply(Box<LocalReply>),
}

impl<'a> Tap<'a> {
    pub(super) fn new(
        rule: &'a Rule,
        backend: Backend<'a>,
        request: &'a RequestHead,
        client: SocketAddr,
        retries: &'a Retries<'a>,
        cookie: Option<SetCookie>,
    ) -> Self {
        let chain = rule.chain();
        let collects = chain.buffers(Side::Response).is_some();
        let strict = collects && chain.overflow_fails();
        Self {
            chain,
            response_headers: rule.response_headers(),
            backend,
            request,
            client,
            retries,
            cookie,
            status: None,
            again: None,
            left: rule.max_request_body(),
            request_filters: chain.filters(Side::Request),
            response_filters: chain.filters(Side::Response),
            collects,
            collect_left: chain.buffers(Side::Response).filter(|_| strict),
            stages: None,
            copies: None,
            why: None,
            shows: None,
        }
    }

    /// The body goes to these copies, too, from its beginning.
    pub(super) fn copy_to(&mut self, copies: Option<&'a RefCell<Copies>>) {
        if let Some(copies) = copies {
            copies.borrow_mut().restart();
        }
        self.copies = copies;
    }

    /// The client is told this revision.
    pub(super) fn show(&mut self, revision: Option<Revision>) {
        self.shows = revision;
    }

    /// Status of the endpoint's answer, if its head has come.
    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    /// After what time the request is to be tried again, if the answer was thrown away for that.
    pub(super) fn again(&self) -> Option<Duration> {
        self.again
    }

    /// Why the exchange was aborted, if it was this tap that did so.
    pub(super) fn into_why(self) -> Option<Why> {
        self.why
    }

    fn stop(&mut self, why: Why) -> Abort {
        self.why = Some(why);
        Abort
    }

    fn plugin_failed(&mut self) -> Abort {
        self.stop(Why::Failure(fail::PLUGIN_ERROR))
    }

    fn edit(&self, head: &mut ResponseHead) -> Result<(), Why> {
        let edited = self
            .response_headers
            .apply(&mut head.headers)
            .and_then(|()| self.backend.response_headers.apply(&mut head.headers))
            .and_then(|()| match &self.cookie {
                None => Ok(()),
                Some(cookie) => cookie.add_to(head),
            });
        edited.map_err(|_| Why::Failure(fail::INTERNAL_ERROR))
    }
}

impl BodyTap for Tap<'_> {
    fn request_chunk(&mut self, data: Bytes) -> Result<Bytes, Abort> {
        match self.left.checked_sub(data.len() as u64) {
            Some(left) => self.left = left,
            None => return Err(self.stop(Why::Failure(fail::REQUEST_TOO_LARGE))),
        }
        let data = match &mut self.request_filters {
            None => data,
            Some(filters) => filters.chunk(data).map_err(|_| self.plugin_failed())?,
        };
        if let Some(copies) = self.copies {
            copies.borrow_mut().push(&data);
        }
        Ok(data)
    }

    fn request_end(&mut self) -> Result<Bytes, Abort> {
        let tail = match &mut self.request_filters {
            None => Bytes::new(),
            Some(filters) => filters.end().map_err(|_| self.plugin_failed())?,
        };
        if let Some(copies) = self.copies {
            let mut copies = copies.borrow_mut();
            copies.push(&tail);
            copies.send();
        }
        Ok(tail)
    }

    fn poll_response_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), Abort>> {
        if self.stages.is_none() {
            self.status = Some(head.status);
            let upstream = self.backend.upstream;
            self.again = upstream.and_then(|u| self.retries.after_answer(u, head));
            if self.again.is_some() {
                return Poll::Ready(Err(Abort));
            }
            show(self.shows, head);
            if let Err(why) = self.edit(head) {
                return Poll::Ready(Err(self.stop(why)));
            }
            let chain = self.chain;
            let idle = chain.is_empty(Stage::PostRequest)
                && (self.collects || chain.is_empty(Stage::PreResponse));
            if idle && self.response_filters.is_none() {
                return Poll::Ready(Ok(()));
            }
            if self.response_filters.is_some() && head.framing != Framing::Empty {
                head.framing = Framing::Chunked;
            }
            let (request, client) = (self.request, self.client);
            let (owned, collects) = (std::mem::take(head), self.collects);
            self.stages = Some(Box::pin(run_stages(
                chain, request, client, owned, collects,
            )));
        }
        let Some(stages) = &mut self.stages else {
            return Poll::Ready(Ok(()));
        };
        let (edited, result) = ready!(stages.as_mut().poll(cx));
        self.stages = None;
        *head = edited;
        let filters = result.map_err(|why| self.stop(why))?;
        if !filters.is_empty() {
            if head.framing != Framing::Empty {
                head.framing = Framing::Chunked;
            }
            // To HEAD no body follows, and its fields are those of GET (RFC 9110 section 9.3.2).
            if self.request.method != Method::Head {
                self.response_filters
                    .get_or_insert_default()
                    .append(filters);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn response_chunk(&mut self, data: Bytes) -> Result<Bytes, Abort> {
        let data = match &mut self.response_filters {
            None => data,
            Some(filters) => filters.chunk(data).map_err(|_| self.plugin_failed())?,
        };
        if let Some(left) = self.collect_left {
            match left.checked_sub(data.len() as u64) {
                Some(left) => self.collect_left = Some(left),
                None => {
                    self.chain.overflowed();
                    return Err(self.plugin_failed());
                }
            }
        }
        Ok(data)
    }

    fn response_pause(&mut self) -> Result<Bytes, Abort> {
        match &mut self.response_filters {
            None => Ok(Bytes::new()),
            Some(filters) => filters.flush().map_err(|_| self.plugin_failed()),
        }
    }

    fn response_end(&mut self) -> Result<Bytes, Abort> {
        match &mut self.response_filters {
            None => Ok(Bytes::new()),
            Some(filters) => filters.end().map_err(|_| self.plugin_failed()),
        }
    }
}

/// `post_request`, then `pre_response` unless that has to wait for the whole body.
async fn run_stages<'a>(
    chain: &'a Chain,
    request: &'a RequestHead,
    client: SocketAddr,
    mut head: ResponseHead,
    collects: bool,
) -> (ResponseHead, Result<Filters, Why>) {
    let mut filters = Filters::default();
    let stages = [Stage::PostRequest, Stage::PreResponse];
    let count = if collects { 1 } else { 2 };
    for stage in stages.into_iter().take(count) {
        let mut reader = ResponseStage {
            request: request_view(request, client, None),
            answer: &mut head,
            body: None,
            filters: std::mem::take(&mut filters),
        };
        let outcome = chain.run(stage, &mut reader, false).await;
        filters = reader.filters;
        if let Err(why) = verdict(outcome) {
            return (head, Err(why));
        }
    }
    (head, Ok(filters))
}

/// What a stage came to, as far as it stops the exchange.
pub(super) fn verdict(outcome: Outcome) -> Result<(), Why> {
    match outcome {
        Outcome::Continue => Ok(()),
        Outcome::Respond { reply, .. } => Err(Why::Reply(reply)),
        Outcome::Failed { plugin, failure } => {
            tracing::warn!(event = "plugin_failed", plugin, %failure, "a plugin failed");
            Err(Why::Failure(fail::PLUGIN_ERROR))
        }
    }
}
