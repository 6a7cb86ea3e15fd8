//! The plugins of one rule in the order in which they run.
//!
//! Plugins of a stage form groups by ascending priority; equal priority keeps list order (F104, F105, F112). A group
//! whose members all say `parallel` runs at once and its edits merge in list order; any other group runs one after the
//! other (F106, F107). An empty chain is one branch.

use crate::filters::Passing;
use crate::meter::{Lap, Meter, panicked};
use crate::{
    BodyMode, Edits, Exchange, Failure, Filters, Flow, Later, LocalReply, Plugin, Side, Verdict,
};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use model::headers::InvalidHeader;
use model::{FailurePolicy, Stage};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// One plugin with what its object says about it.
pub struct ChainEntry {
    pub name: String,
    pub plugin: Arc<dyn Plugin>,
    /// Restricts the plugin to one of its stages.
    pub stage: Option<Stage>,
    /// Lower runs first.
    pub priority: i32,
    pub parallel: bool,
    pub failure_policy: FailurePolicy,
    pub run_on_local_reply: bool,
    /// `None`: nobody wants to know.
    pub meter: Option<Arc<dyn Meter>>,
}

/// Why a list of plugins makes no chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    #[error("plugin {name} does not run in stage {stage:?}")]
    Stage { name: String, stage: Stage },
}

/// The stage on the side of whoever runs it: shows the exchange and takes edits.
pub trait Reader {
    fn exchange(&self) -> Exchange<'_>;

    /// # Errors
    /// [`InvalidHeader`] when an edit is not allowed on the wire.
    fn apply(&mut self, edits: &Edits) -> Result<(), InvalidHeader>;

    /// The answer's body is to pass this filter ([`Edits::filter_answer`]).
    ///
    /// # Errors
    /// [`Failure`] in a stage that has no answer.
    fn filter_answer(&mut self, _: Passing) -> Result<(), Failure> {
        Err(Failure("there is no answer to filter in this stage".into()))
    }
}

/// What a stage came to.
#[derive(Debug)]
pub enum Outcome {
    Continue,
    /// A plugin answered.
    Respond {
        plugin: String,
        reply: Box<LocalReply>,
    },
    /// A plugin failed under `failurePolicy: Fail`: 500 `plugin_error`.
    Failed {
        plugin: String,
        failure: Failure,
    },
}

/// See the module.
#[derive(Default)]
pub struct Chain {
    stages: [Box<[Group]>; 4],
    request: BodyNeed,
    response: BodyNeed,
    codings: bool,
}

#[derive(Default)]
struct BodyNeed {
    /// The smallest size that a buffering plugin allows.
    buffer: Option<u64>,
    /// The first plugin for which a body over that size is an error; `None`: it is passed by.
    strict: Option<Arc<Entry>>,
    streaming: Vec<(Arc<Entry>, Side)>,
}

struct Group {
    members: Box<[Arc<Entry>]>,
    parallel: bool,
}

type Entry = ChainEntry;

impl Chain {
    /// # Errors
    /// [`ChainError`] when an object asks for a stage that its type has not.
    pub fn new(entries: Vec<ChainEntry>) -> Result<Self, ChainError> {
        let entries: Vec<Arc<Entry>> = entries.into_iter().map(Arc::new).collect();
        let mut chain = Self::default();
        for entry in &entries {
            let needs = entry.plugin.needs();
            if let Some(stage) = entry.stage
                && !needs.stages.has(stage)
            {
                let name = entry.name.clone();
                return Err(ChainError::Stage { name, stage });
            }
            chain.codings |= needs.codings;
            if entry.runs_in(Stage::PreRequest) {
                chain.request.add(needs.request_body, entry, Side::Request);
            }
            if entry.runs_in(Stage::PreResponse) {
                chain
                    .response
                    .add(needs.response_body, entry, Side::Response);
            }
        }
        for stage in STAGES {
            let mut members: Vec<_> = entries.iter().filter(|e| e.runs_in(stage)).collect();
            members.sort_by_key(|e| e.priority);
            chain.stages[stage as usize] = members
                .chunk_by(|a, b| a.priority == b.priority)
                .map(|group| Group {
                    members: group.iter().map(|e| Arc::clone(e)).collect(),
                    parallel: group.len() > 1 && group.iter().all(|e| e.parallel),
                })
                .collect();
        }
        Ok(chain)
    }

    /// Whether nothing runs in this stage.
    pub fn is_empty(&self, stage: Stage) -> bool {
        self.stages[stage as usize].is_empty()
    }

    /// Names in the order in which they run, for `explain`.
    pub fn names(&self, stage: Stage) -> impl Iterator<Item = &str> {
        self.stages[stage as usize]
            .iter()
            .flat_map(|g| g.members.iter().map(|m| m.name.as_str()))
    }

    /// The size up to which a body has to be held before the stage that judges it; `None`: it streams.
    pub fn buffers(&self, side: Side) -> Option<u64> {
        self.need(side).buffer
    }

    /// Whether some plugin asks which content codings the client accepts.
    pub fn asks_codings(&self) -> bool {
        self.codings
    }

    /// Whether some plugin wants this body chunk by chunk.
    pub fn streams(&self, side: Side) -> bool {
        !self.need(side).streaming.is_empty()
    }

    /// Whether a response over that size is an error (500 `plugin_error`). Otherwise it passes unjudged. A request
    /// over it is always refused (413).
    pub fn overflow_fails(&self) -> bool {
        self.response.strict.is_some()
    }

    /// A response was over that size.
    pub fn overflowed(&self) {
        if let Some(entry) = &self.response.strict {
            entry.failed();
        }
    }

    /// Fresh filters for one body of one exchange, in order; `None` where no plugin wants chunks.
    pub fn filters(&self, side: Side) -> Option<Filters> {
        let need = self.need(side);
        if need.streaming.is_empty() {
            return None;
        }
        let filters = need.streaming.iter().filter_map(|(entry, side)| {
            let filter = entry.plugin.body_filter(*side)?;
            let meter = entry.meter.clone();
            Some(Passing::new(filter, entry.failure_policy, meter))
        });
        Some(filters.collect())
    }

    fn need(&self, side: Side) -> &BodyNeed {
        match side {
            Side::Request => &self.request,
            Side::Response => &self.response,
        }
    }

    /// Runs a stage. On a local reply only plugins with `runOnLocalReply` take part.
    pub async fn run(&self, stage: Stage, reader: &mut impl Reader, local_reply: bool) -> Outcome {
        for group in &self.stages[stage as usize] {
            let outcome = if group.parallel {
                run_parallel(group, stage, reader, local_reply).await
            } else {
                run_sequential(group, stage, reader, local_reply).await
            };
            if !matches!(outcome, Outcome::Continue) {
                return outcome;
            }
        }
        Outcome::Continue
    }

    /// Tells the plugins of `post_response` that the last byte is out.
    pub fn finished(&self, exchange: &Exchange<'_>, local_reply: bool) {
        for group in &self.stages[Stage::PostResponse as usize] {
            let mut lap = Lap::begin();
            for member in group.members.iter().filter(|m| m.takes_part(local_reply)) {
                let run = AssertUnwindSafe(|| member.plugin.post_response(exchange));
                if catch_unwind(run).is_err() {
                    panicked(member.meter());
                    member.failed();
                }
                lap.tell(member.meter());
            }
        }
    }
}

const STAGES: [Stage; 4] = [
    Stage::PreRequest,
    Stage::PostRequest,
    Stage::PreResponse,
    Stage::PostResponse,
];

impl BodyNeed {
    fn add(&mut self, mode: BodyMode, entry: &Arc<Entry>, side: Side) {
        match mode {
            BodyMode::None => {}
            BodyMode::Stream => self.streaming.push((Arc::clone(entry), side)),
            BodyMode::Buffer(max) => {
                self.buffer = Some(self.buffer.map_or(max, |old| old.min(max)));
                if entry.failure_policy == FailurePolicy::Fail {
                    self.strict.get_or_insert_with(|| Arc::clone(entry));
                }
            }
        }
    }
}

impl ChainEntry {
    fn runs_in(&self, stage: Stage) -> bool {
        match self.stage {
            Some(only) => only == stage,
            None => self.plugin.needs().stages.has(stage),
        }
    }

    fn takes_part(&self, local_reply: bool) -> bool {
        !local_reply || self.run_on_local_reply
    }

    /// Nothing outlives the plugin's panic that it has touched: the edits of a failure are dropped.
    fn start<'a>(&'a self, stage: Stage, x: &Exchange<'a>, edits: &mut Edits) -> Verdict<'a> {
        let run = AssertUnwindSafe(|| match stage {
            Stage::PreRequest => self.plugin.pre_request(x, edits),
            Stage::PostRequest => self.plugin.post_request(x, edits),
            Stage::PreResponse => self.plugin.pre_response(x, edits),
            Stage::PostResponse => Verdict::CONTINUE,
        });
        catch_unwind(run).unwrap_or_else(|_| Verdict::Ready(Err(panicked(self.meter()))))
    }

    async fn finish(&self, later: Later<'_>) -> (Edits, Result<Flow, Failure>) {
        let run = AssertUnwindSafe(later).catch_unwind();
        run.await
            .unwrap_or_else(|_| (Edits::default(), Err(panicked(self.meter()))))
    }

    fn meter(&self) -> Option<&dyn Meter> {
        self.meter.as_deref()
    }

    fn failed(&self) {
        if let Some(meter) = self.meter() {
            meter.failed(self.failure_policy);
        }
    }

    fn judge(&self, result: Result<Flow, Failure>) -> Outcome {
        if result.is_err() {
            self.failed();
        }
        match result {
            Ok(Flow::Continue) => Outcome::Continue,
            Ok(Flow::Respond(reply)) => Outcome::Respond {
                plugin: self.name.clone(),
                reply,
            },
            Err(_) if self.failure_policy == FailurePolicy::Ignore => Outcome::Continue,
            Err(failure) => Outcome::Failed {
                plugin: self.name.clone(),
                failure,
            },
        }
    }
}

async fn run_sequential(
    group: &Group,
    stage: Stage,
    reader: &mut impl Reader,
    local_reply: bool,
) -> Outcome {
    let mut lap = Lap::begin();
    for member in group.members.iter().filter(|m| m.takes_part(local_reply)) {
        let mut edits = Edits::default();
        let result = match member.start(stage, &reader.exchange(), &mut edits) {
            Verdict::Ready(result) => result,
            Verdict::Pending(future) => {
                let (later, result) = member.finish(future).await;
                edits.merge(later);
                result
            }
        };
        let result = result.and_then(|flow| apply(reader, member, edits).map(|()| flow));
        lap.tell(member.meter());
        let outcome = member.judge(result);
        if !matches!(outcome, Outcome::Continue) {
            return outcome;
        }
    }
    Outcome::Continue
}

/// All members see the same exchange. The reported refusal is that of the lowest place in the list, whatever finished
/// first; members behind it are dropped.
async fn run_parallel(
    group: &Group,
    stage: Stage,
    reader: &mut impl Reader,
    local_reply: bool,
) -> Outcome {
    let mut done: Vec<Option<(Edits, Result<Flow, Failure>)>> = Vec::new();
    {
        let exchange = reader.exchange();
        let mut waiting = FuturesUnordered::new();
        let members = group.members.iter().enumerate();
        done.resize_with(group.members.len(), || None);
        let mut limit = group.members.len();
        for (i, member) in members.filter(|(_, m)| m.takes_part(local_reply)) {
            let mut edits = Edits::default();
            let mut lap = Lap::begin();
            match member.start(stage, &exchange, &mut edits) {
                Verdict::Ready(result) => {
                    lap.tell(member.meter());
                    let stops = stops(member, &result);
                    done[i] = Some((edits, result));
                    if stops {
                        limit = i;
                        break;
                    }
                }
                Verdict::Pending(future) => waiting.push(async move {
                    let (later, result) = member.finish(future).await;
                    lap.tell(member.meter());
                    edits.merge(later);
                    (i, edits, result)
                }),
            }
        }
        // Only members before the first refusal can still change the outcome.
        let mut open: usize = waiting.len();
        while open > 0 {
            let Some((i, edits, result)) = waiting.next().await else {
                break;
            };
            open -= 1;
            if i < limit && stops(&group.members[i], &result) {
                limit = i;
            }
            done[i] = Some((edits, result));
            if done[..limit]
                .iter()
                .zip(&group.members[..limit])
                .all(|(d, m)| d.is_some() || !m.takes_part(local_reply))
            {
                break;
            }
        }
    }
    for (member, result) in group.members.iter().zip(done) {
        let Some((edits, result)) = result else {
            continue;
        };
        let result = result.and_then(|flow| apply(reader, member, edits).map(|()| flow));
        let outcome = member.judge(result);
        if !matches!(outcome, Outcome::Continue) {
            return outcome;
        }
    }
    Outcome::Continue
}

fn stops(member: &ChainEntry, result: &Result<Flow, Failure>) -> bool {
    match result {
        Ok(Flow::Continue) => false,
        Ok(Flow::Respond(_)) => true,
        Err(_) => member.failure_policy == FailurePolicy::Fail,
    }
}

fn apply(reader: &mut impl Reader, member: &ChainEntry, mut edits: Edits) -> Result<(), Failure> {
    if edits.is_empty() {
        return Ok(());
    }
    reader
        .apply(&edits)
        .map_err(|e| Failure(format!("header edit refused: {e}").into()))?;
    let mut filters = edits.take_filters().into_iter();
    filters.try_for_each(|filter| {
        // Part of what it made may have left when it fails.
        let filter = Passing::new(filter, FailurePolicy::Fail, member.meter.clone());
        reader.filter_answer(filter)
    })
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
