//! What becomes of a panic. Wherever it comes it is logged and counted; what goes on then depends on where that is:
//!
//! - in translating one unit: that unit stays as it was (`translate::translator::guard`);
//! - elsewhere on the thread that translates: the process ends, and what is half done is sent to nobody;
//! - in the watch of a kind: it begins anew with a list;
//! - in a request or stream: that alone ends;
//! - in a part of the controller that runs for ever ([`Parts`]): the process ends, and Kubernetes starts another. A replica
//!   that leads and does not write statuses any more would hold the Lease for ever.

use crate::metrics::Metrics;
use futures_util::FutureExt;
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread;
use tokio::sync::mpsc;

/// Name of the thread that translates.
pub const TRANSLATING: &str = "world";

tokio::task_local! {
    static PART: &'static str;
}

/// From now on each panic of the process is logged and counted.
pub fn tell(metrics: Arc<Metrics>) {
    std::panic::set_hook(Box::new(move |panic| {
        let thread = thread::current();
        let translating = thread.name() == Some(TRANSLATING);
        let place = if translating { "translate" } else { "task" };
        metrics.panics.with_label_values(&[place]).inc();
        tracing::error!(
            event = "panic",
            thread = thread.name(),
            part = PART.try_with(|part| *part).ok(),
            at = panic.location().map(ToString::to_string),
            what = constant(panic.payload()),
            "a panic"
        );
    }));
}

/// What a panic says, where that is part of the program: what was put together may hold what no log may have.
fn constant(payload: &(dyn Any + Send)) -> Option<&'static str> {
    payload.downcast_ref::<&'static str>().copied()
}

/// Parts of the controller without which it is not whole.
#[derive(Clone)]
pub struct Parts {
    /// One is enough to know of.
    fallen: mpsc::Sender<&'static str>,
}

impl Parts {
    /// The second value brings the name of a part that has panicked.
    pub fn new() -> (Self, mpsc::Receiver<&'static str>) {
        let (fallen, receiver) = mpsc::channel(1);
        (Self { fallen }, receiver)
    }

    /// A part by its name; nothing of it goes on after a panic.
    pub fn part(
        &self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let fallen = self.fallen.clone();
        async move {
            let work = PART.scope(name, AssertUnwindSafe(work).catch_unwind());
            if work.await.is_err() {
                // Full: another has fallen before.
                let _ = fallen.try_send(name);
            }
        }
    }
}
