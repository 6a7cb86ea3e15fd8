//! By when a request must have its answer, and who says so.

use super::grpc;
use crate::engine::RequestHead;
use crate::table::Rule;
use std::time::Duration;
use tokio::time::Instant;

/// A client looks at its clock itself. What ends its call before it does would be another failure to it than the time.
const GRACE: Duration = Duration::from_millis(100);

/// When a request as a whole has taken too long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    /// `None`: it may take as long as it likes.
    pub at: Option<Instant>,
    /// The client has chosen it: the rule has no limit, or a longer one.
    clients: bool,
}

impl Due {
    /// Of a request whose head was there then.
    pub(super) fn of(rule: &Rule, head: &RequestHead, begun: std::time::Instant) -> Self {
        let own = match rule.timeouts().request_ms {
            0 => None,
            millis => Some(Duration::from_millis(millis.into())),
        };
        // A client of gRPC says itself how long it waits.
        let asked = grpc::timeout(head);
        let clients = asked.is_some_and(|asked| own.is_none_or(|own| asked < own));
        let limit = if clients {
            asked.map(|asked| asked + GRACE)
        } else {
            own
        };
        Self {
            at: limit.map(|limit| Instant::from_std(begun) + limit),
            clients,
        }
    }

    /// Whether there is no time left.
    pub(super) fn is_over(&self) -> bool {
        self.at.is_some_and(|at| Instant::now() >= at)
    }

    /// The same because the client would not wait for longer. That is nothing against an endpoint: others may think it
    /// quick enough.
    pub(super) fn client_gave_up(&self) -> bool {
        self.clients && self.is_over()
    }
}
