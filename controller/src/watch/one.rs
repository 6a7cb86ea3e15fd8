//! The watch of one object, by its name.

use std::fmt::Debug;
use std::time::Duration;

use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::following::{Following, Seen, Trouble};
use crate::outage::Outage;

/// See the module.
pub(crate) struct One<K> {
    name: String,
    outage: Outage,
    following: Following<K>,
    listed: Option<K>,
}

/// The watch is interrupted; it goes on by itself.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Interrupted(#[from] Trouble);

impl Interrupted {
    pub(crate) fn is_forbidden(&self) -> bool {
        self.0.refusal() == Some(403)
    }
}

impl<K> One<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    pub(crate) fn new(api: Api<K>, name: &str) -> Self {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        Self {
            name: name.to_owned(),
            outage: Outage::default(),
            following: Following::new(api, config),
            listed: None,
        }
    }

    /// The object as it is next; `None`: there is none. Nothing is lost where the wait is given up.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub(crate) async fn next(&mut self) -> Result<Option<K>, Interrupted> {
        loop {
            match self.following.next().await? {
                Seen::Event(Event::Init) => self.listed = None,
                Seen::Event(Event::InitApply(object)) => self.listed = Some(object),
                Seen::Event(Event::InitDone) => {
                    self.works();
                    return Ok(self.listed.take());
                }
                Seen::Event(Event::Apply(object)) => return Ok(Some(object)),
                Seen::Event(Event::Delete(_)) => return Ok(None),
                Seen::Works => self.works(),
            }
        }
    }

    /// It is interrupted. For how long it has been, where that is to be said now; that it works again is said here.
    pub(crate) fn fails(&mut self) -> Option<Duration> {
        self.outage.fails()
    }

    fn works(&mut self) {
        if let Some(after) = self.outage.ends() {
            tracing::info!(object = self.name, ?after, "the watch works again");
        }
    }
}
