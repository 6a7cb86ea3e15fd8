//! A watch that goes on, whatever an API server does: kube's asks for ever for changes since a version that the server says
//! with the status of its answer to be too old, and waits for ever for a list that does not come.

use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

use super::Verb;
use super::backoff::Pauses;

/// Before it begins anew.
pub(super) const RETRY: Duration = Duration::from_secs(2);

/// How long a page of a list may take. An API server gives up its own after a minute.
pub(super) const PAGE: Duration = Duration::from_secs(90);

/// A watch that was interrupted works again when nothing has failed for so long: the pause before the next attempt and the
/// time for a connection are less. Nothing else is heard of one that goes on where it was.
pub(super) const SETTLED: Duration = Duration::from_secs(10);

type Events<K> = Pin<Box<dyn Stream<Item = Result<Event<K>, watcher::Error>> + Send>>;

/// See the module.
pub(crate) struct Following<K> {
    api: Api<K>,
    config: watcher::Config,
    /// `None`: it is to begin anew.
    events: Option<Events<K>>,
    /// Came after what is told first.
    later: Option<Event<K>>,
    lists: bool,
    fails: bool,
}

/// What a watch brings.
pub(crate) enum Seen<K> {
    Event(Event<K>),
    /// After a failure it works again.
    Works,
}

/// Why a watch is interrupted. It goes on by itself, and what is known stays so.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Failed(#[from] watcher::Error),
    /// A new list is on its way.
    #[error("{0}: it begins anew")]
    Stale(&'static str),
}

impl<K> Following<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    pub(crate) fn new(api: Api<K>, config: watcher::Config) -> Self {
        let mut following = Self {
            api,
            config,
            events: None,
            later: None,
            lists: true,
            fails: false,
        };
        following.begin();
        following
    }

    fn begin(&mut self) -> &mut Events<K> {
        let events = watcher(self.api.clone(), self.config.clone());
        let events: Events<K> = Box::pin(events.backoff(Pauses::new()));
        (self.lists, self.fails) = (true, false);
        self.events.insert(events)
    }

    /// Waits for what comes next; nothing is lost where that is given up.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(crate) async fn next(&mut self) -> Result<Seen<K>, Trouble> {
        if let Some(event) = self.later.take() {
            return Ok(Seen::Event(event));
        }
        if self.events.is_none() {
            sleep(RETRY).await;
            self.begin();
        }
        let Some(events) = &mut self.events else {
            return Err(Trouble::Stale("the watch has ended"));
        };
        let next = match (self.lists, self.fails) {
            (true, _) => timeout(PAGE, events.next()).await,
            (false, true) => timeout(SETTLED, events.next()).await,
            (false, false) => Ok(events.next().await),
        };
        let event = match next {
            Ok(Some(Ok(event))) => event,
            Ok(Some(Err(error))) => {
                self.fails = true;
                // It would ask for the same version for ever.
                let too_old = matches!(error, watcher::Error::WatchStartFailed(_));
                return Err(match too_old && refusal(&error) == Some(410) {
                    true => self.stale("what came last is too old to go on from"),
                    false => error.into(),
                });
            }
            Ok(None) => return Err(self.stale("the watch has ended")),
            Err(_) if self.lists => return Err(self.stale("a list does not come")),
            Err(_) => {
                self.fails = false;
                return Ok(Seen::Works);
            }
        };
        match &event {
            Event::Init => self.lists = true,
            Event::InitApply(_) => {}
            Event::InitDone => (self.lists, self.fails) = (false, false),
            Event::Apply(_) | Event::Delete(_) => {
                if std::mem::take(&mut self.fails) {
                    self.later = Some(event);
                    return Ok(Seen::Works);
                }
            }
        }
        Ok(Seen::Event(event))
    }

    fn stale(&mut self, why: &'static str) -> Trouble {
        self.events = None;
        Trouble::Stale(why)
    }
}

impl Trouble {
    /// The HTTP status with which the API server refused a list or watch.
    pub(crate) fn refusal(&self) -> Option<u16> {
        match self {
            Self::Failed(error) => refusal(error),
            Self::Stale(_) => None,
        }
    }

    /// What was asked for.
    pub(crate) fn verb(&self) -> Verb {
        match self {
            Self::Failed(watcher::Error::InitialListFailed(_)) => Verb::List,
            _ => Verb::Watch,
        }
    }
}

fn refusal(error: &watcher::Error) -> Option<u16> {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))
    | watcher::Error::WatchFailed(kube::Error::Api(status))
    | watcher::Error::WatchError(status)) = error
    else {
        return None;
    };
    Some(status.code)
}
