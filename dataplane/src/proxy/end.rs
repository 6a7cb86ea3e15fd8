//! How an exchange with an upstream ended, and what that means for the client, the endpoint and the metrics.

use super::exchange::Summary;
use super::fail::{self, Failure};
use super::tap::Why;
use super::wait::Refused;
use crate::engine::{Fault, UpFault};
use crate::telemetry::metrics::{Attempt, Cut};

/// How an exchange with an upstream ended.
pub(super) enum End {
    /// The answer has left.
    Done,
    /// The client has seen nothing of an answer: it gets this one.
    Instead(Why),
    /// The answer had begun and cannot be completed: the connection is cut.
    Cut(Failure),
    /// The client is gone.
    Gone,
}

/// The client gets this failure.
pub(super) fn instead(failure: Failure) -> End {
    End::Instead(Why::Failure(failure))
}

impl From<Refused> for End {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Answer(failure) => instead(failure),
            Refused::Gone => Self::Gone,
        }
    }
}

/// A plugin or a cap stopped the exchange.
pub(super) fn stopped(why: Why, summary: &Summary) -> End {
    match (summary.progress.answered, why) {
        (None, why) => End::Instead(why),
        (Some(_), Why::Failure(failure)) => End::Cut(failure),
        (Some(_), Why::Reply(_)) => End::Cut(fail::PLUGIN_ERROR),
    }
}

/// The exchange came to no end.
pub(super) fn faulty(fault: &Fault, summary: &mut Summary) -> End {
    if summary.progress.answered.is_some() {
        summary.cut = Cut::of(fault);
    }
    match (Failure::of(fault), summary.progress.answered) {
        (None, _) => End::Gone,
        (Some(failure), None) => instead(failure),
        (Some(failure), Some(_)) => End::Cut(failure),
    }
}

/// How an attempt that ended so is counted.
pub(super) fn outcome(fault: UpFault) -> Attempt {
    match fault {
        UpFault::Connect(_) => Attempt::ConnectError,
        UpFault::Tls => Attempt::TlsError,
        UpFault::Reset { .. } | UpFault::Unprocessed => Attempt::Reset,
        UpFault::Protocol(_) => Attempt::ProtocolError,
        UpFault::ConnectTimeout | UpFault::Timeout => Attempt::Timeout,
    }
}
