//! From finished requests to collectors, in batches.
//!
//! Requests never wait: what does not fit into the queue, or into a collector's part of it, is dropped and counted
//! (`diolkos_log_records_dropped_total{sink="otlp"}`). Each collector has one batch under way at a time, so one that is slow
//! or gone holds nobody up.

use super::send;
use super::{Finished, Target};
use crate::telemetry::Metrics;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use opentelemetry_proto::tonic::trace::v1::Span;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait for the exporter.
const QUEUE: usize = 4096;
/// Spans that may wait for one collector.
const WAITING: usize = 8192;
/// Spans of one batch.
const BATCH: usize = 512;
/// Collectors at a time; one for each listener is as many as there can be.
const LANES: usize = 64;
/// After which what there is is sent.
const TICK: Duration = Duration::from_secs(1);
/// For one batch.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Ticks without a span after which a collector's connection is given up.
const IDLE: u32 = 300;

/// The queue's sending end; cheap to clone.
#[derive(Clone)]
pub struct Exporter {
    queue: mpsc::Sender<Message>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
enum Message {
    Spans(Finished),
    /// Everything before it has been sent, or given up, when the sender is dropped.
    Flush(oneshot::Sender<()>),
}

impl Exporter {
    pub fn start(runtime: &Handle, metrics: Arc<Metrics>) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let lanes = Lanes {
            lanes: Vec::new(),
            under_way: FuturesUnordered::new(),
            metrics: Arc::clone(&metrics),
            flushed: Vec::new(),
        };
        runtime.spawn(lanes.run(receiver));
        Self { queue, metrics }
    }

    /// Hands over the spans of one request; never waits.
    pub(crate) fn send(&self, finished: Finished) {
        let spans = finished.spans.len();
        if self.queue.try_send(Message::Spans(finished)).is_err() {
            self.metrics.otlp_dropped.inc_by(spans as u64);
        }
    }

    /// Waits until what was handed over before has been sent or given up, and no longer than `limit`.
    pub async fn flush(&self, limit: Duration) {
        let (done, wait) = oneshot::channel();
        let flushed = async {
            if self.queue.send(Message::Flush(done)).await.is_ok() {
                // An error is what is waited for.
                let _ = wait.await;
            }
        };
        let _ = tokio::time::timeout(limit, flushed).await;
    }
}

/// What waits for one collector.
struct Lane {
    target: Arc<Target>,
    waiting: Vec<Span>,
    /// A connection from the batch before; `None`: none yet, or a batch is under way with it.
    sender: Option<send::Sender>,
    busy: bool,
    failing: bool,
    idle: u32,
}

/// The end of a batch.
struct Sent {
    target: Arc<Target>,
    /// To send the next batch with.
    sender: Option<send::Sender>,
    spans: usize,
    result: Result<usize, String>,
}

struct Lanes {
    lanes: Vec<Lane>,
    under_way: FuturesUnordered<BoxFuture<'static, Sent>>,
    metrics: Arc<Metrics>,
    flushed: Vec<oneshot::Sender<()>>,
}

impl Lanes {
    async fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = queue.recv() => match message {
                    Some(Message::Spans(finished)) => self.add(finished),
                    Some(Message::Flush(done)) => {
                        self.flushed.push(done);
                        self.send_all();
                    }
                    None => return,
                },
                Some(sent) = self.under_way.next() => self.sent(sent),
                _ = ticks.tick() => {
                    self.send_all();
                    self.lanes.retain_mut(|lane| {
                        lane.idle += 1;
                        lane.busy || !lane.waiting.is_empty() || lane.idle < IDLE
                    });
                }
            }
        }
    }

    fn add(&mut self, finished: Finished) {
        let Finished { target, spans } = finished;
        let at = self.lanes.iter().position(|l| l.target == target);
        let at = match at {
            Some(at) => at,
            None if self.lanes.len() >= LANES => return self.drop_spans(spans.len()),
            None => {
                self.lanes.push(Lane {
                    target,
                    waiting: Vec::new(),
                    sender: None,
                    busy: false,
                    failing: false,
                    idle: 0,
                });
                self.lanes.len() - 1
            }
        };
        let Some(lane) = self.lanes.get_mut(at) else {
            return;
        };
        lane.idle = 0;
        if lane.waiting.len() + spans.len() > WAITING {
            return self.drop_spans(spans.len());
        }
        lane.waiting.extend(spans);
        if lane.waiting.len() >= BATCH {
            self.send(at);
        }
    }

    fn drop_spans(&self, spans: usize) {
        self.metrics.otlp_dropped.inc_by(spans as u64);
    }

    fn send_all(&mut self) {
        for at in 0..self.lanes.len() {
            self.send(at);
        }
        self.settle_flushes();
    }

    /// Sends a batch, unless one is under way.
    fn send(&mut self, at: usize) {
        let Some(lane) = self.lanes.get_mut(at) else {
            return;
        };
        if lane.busy || lane.waiting.is_empty() {
            return;
        }
        lane.busy = true;
        let rest = lane.waiting.split_off(lane.waiting.len().min(BATCH));
        let batch = std::mem::replace(&mut lane.waiting, rest);
        let (target, sender) = (Arc::clone(&lane.target), lane.sender.take());
        self.under_way.push(Box::pin(async move {
            let spans = batch.len();
            let sending = async {
                let mut sender = match sender {
                    Some(sender) => sender,
                    None => send::Sender::connect(&target).await?,
                };
                let rejected = sender.send(&target, batch).await?;
                Ok::<_, String>((sender, rejected))
            };
            let done = tokio::time::timeout(TIMEOUT, sending).await;
            let (sender, result) = match done {
                Ok(Ok((sender, rejected))) => (Some(sender), Ok(rejected)),
                Ok(Err(error)) => (None, Err(error)),
                Err(_) => (None, Err("no answer in time".to_owned())),
            };
            Sent {
                target,
                sender,
                spans,
                result,
            }
        }));
    }

    fn sent(&mut self, sent: Sent) {
        let Sent {
            target,
            sender,
            spans,
            result,
        } = sent;
        let lost = match &result {
            Ok(rejected) => *rejected,
            Err(_) => spans,
        };
        self.drop_spans(lost);
        let Some(at) = self.lanes.iter().position(|l| l.target == target) else {
            return;
        };
        let Some(lane) = self.lanes.get_mut(at) else {
            return;
        };
        lane.busy = false;
        lane.sender = sender;
        let failing = result.is_err();
        if failing != std::mem::replace(&mut lane.failing, failing) {
            let endpoint = target.endpoint.authority().map(|a| a.as_str());
            match result {
                Err(error) => tracing::warn!(
                    event = "otlp_failed",
                    endpoint,
                    error,
                    "spans cannot be sent and are dropped"
                ),
                Ok(_) => tracing::info!(event = "otlp_works", endpoint, "spans are sent again"),
            }
        }
        if lane.waiting.len() >= BATCH || !self.flushed.is_empty() {
            self.send(at);
        }
        self.settle_flushes();
    }

    fn settle_flushes(&mut self) {
        if self.under_way.is_empty() && self.lanes.iter().all(|l| l.waiting.is_empty()) {
            self.flushed.clear();
        }
    }
}
