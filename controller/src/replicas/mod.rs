//! What replicas of the controller tell each other, so that what one of them says is true of all.
//!
//! Every replica translates and serves data planes of its own, but the leader alone writes statuses. Each follower keeps
//! one stream to it ([`follow`]) and tells how far its data planes are, what they refuse and what they think of
//! endpoints; the leader ([`lead`]) tells the same of its own, what is refused anywhere and what the data planes of all
//! others think. Everything is said once at the beginning of a stream and then as it changes. A replica without a leader
//! goes on with what it knows itself.
//!
//! Whoever leads next knows the data planes of the leader before: until they are connected to another replica, they hold
//! what they were last known to hold, and for no longer than [`GRACE`].

mod follow;
mod lead;

pub use follow::Follower;
pub use lead::Meeting;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use snapshot::pb;
use snapshot::pb::replica_message::Message;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::groups::Groups;
use crate::publish::{BUILD, Publisher, ReplicaStream, Teller};
use crate::watch::handle::WorldHandle;

/// What happens within this time is told together.
const PACE: Duration = Duration::from_millis(20);
/// How often it is looked whether there is something to tell that nothing has given notice of: what data planes think
/// of endpoints.
const LOOK: Duration = Duration::from_millis(200);
/// How long data planes of a replica that is gone count, which are not connected to another one. Nearly all have found
/// one by then, although their longest pause between two attempts is 10 s.
const GRACE: Duration = Duration::from_secs(8);
/// HTTP/2 pings find a replica that is gone without a word.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Messages under way.
const MESSAGES: usize = 8;

/// The other end has gone.
#[derive(Debug)]
struct Gone;

/// Tells the other end of one stream.
struct Tell {
    groups: Arc<Groups>,
    /// Of the stream, among all that this process has spoken on.
    number: u64,
    /// Of the leader to the follower of this name; `None`: the other way.
    follower: Option<String>,
    tellers: BTreeMap<Arc<str>, OfGroup>,
    progress: watch::Receiver<u64>,
    /// Of whom to tell versions that stand in for others; the leader alone does.
    world: Option<WorldHandle>,
    stand_ins: Option<u64>,
}

struct OfGroup {
    teller: Teller,
    /// Of which publisher, since a group that goes and comes back is another one.
    publisher: Weak<Publisher>,
    seen: Option<u64>,
}

impl Tell {
    fn new(groups: &Arc<Groups>, follower: Option<&str>, world: Option<WorldHandle>) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let mut progress = groups.progress();
        progress.mark_changed();
        Self {
            groups: Arc::clone(groups),
            number: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            follower: follower.map(str::to_owned),
            tellers: BTreeMap::new(),
            progress,
            world,
            stand_ins: None,
        }
    }

    /// Tells until the other end is gone. `wrap` makes a message one of the stream.
    async fn run<T: Send>(
        mut self,
        me: &str,
        out: &mpsc::Sender<T>,
        wrap: impl Fn(pb::ReplicaMessage) -> T + Send + Sync,
    ) -> Gone {
        tokio::select! {
            Err(gone) = self.tell(me, out, &wrap) => gone,
            () = out.closed() => Gone,
        }
    }

    async fn tell<T: Send>(
        &mut self,
        me: &str,
        out: &mpsc::Sender<T>,
        wrap: &(impl Fn(pb::ReplicaMessage) -> T + Send + Sync),
    ) -> Result<Infallible, Gone> {
        send(out, wrap, Message::Hello(self.hello(me))).await?;
        for message in self.news().await {
            send(out, wrap, message).await?;
        }
        send(out, wrap, Message::AllSaid(pb::AllSaid {})).await?;
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = self.progress.changed() => changed.map_err(|_| Gone)?,
                _ = look.tick() => {}
            }
            for message in self.news().await {
                send(out, wrap, message).await?;
            }
            sleep(PACE).await;
        }
    }

    fn hello(&self, me: &str) -> pb::ReplicaHello {
        pb::ReplicaHello {
            replica: me.to_owned(),
            schema: snapshot::SCHEMA,
            stream: self.number,
            build: BUILD.to_owned(),
        }
    }

    /// What has changed.
    async fn news(&mut self) -> Vec<Message> {
        let mut all = self.stand_ins().await;
        all.extend(self.groups().into_iter().map(Message::Group));
        all
    }

    async fn stand_ins(&mut self) -> Vec<Message> {
        let Some(world) = &self.world else {
            return Vec::new();
        };
        let Some(news) = world.stand_ins(self.stand_ins).await else {
            return Vec::new();
        };
        self.stand_ins = Some(news.version);
        // A manifest has less than 448 KiB, as it came from a resource of at most that.
        let manifests = news.manifests.iter().map(|m| {
            Message::StandIns(pb::StandIns {
                manifest: vec![m.to_string()],
            })
        });
        manifests.collect()
    }

    /// What has changed in any group.
    fn groups(&mut self) -> Vec<pb::GroupState> {
        self.progress.mark_unchanged();
        let groups = self.groups.by_name();
        let is_gone = |name: &Arc<str>, _: &mut OfGroup| !groups.contains_key(name);
        let gone = self.tellers.extract_if(.., is_gone);
        let mut all: Vec<_> = gone.filter_map(|(_, of)| of.teller.farewell()).collect();
        for (name, group) in groups {
            let publisher = Arc::downgrade(&group.publisher);
            let known = self.tellers.get(&name);
            if known.is_none_or(|of| !of.publisher.ptr_eq(&publisher)) {
                let of = OfGroup {
                    teller: Teller::new(&group.publisher, &name, self.follower.as_deref()),
                    publisher,
                    seen: None,
                };
                self.tellers.insert(Arc::clone(&name), of);
            }
            let Some(of) = self.tellers.get_mut(&name) else {
                continue;
            };
            all.extend(of.teller.news());
            let members = match &self.follower {
                Some(follower) => group.health.said_beside(follower, &mut of.seen),
                None => group.health.said_here(&mut of.seen),
            };
            all.extend(members.map(|members| pb::GroupState {
                group: name.to_string(),
                members: Some(members),
                ..pb::GroupState::default()
            }));
        }
        all
    }
}

async fn send<T>(
    out: &mpsc::Sender<T>,
    wrap: &(impl Fn(pb::ReplicaMessage) -> T + Send + Sync),
    message: Message,
) -> Result<(), Gone> {
    let message = pb::ReplicaMessage {
        message: Some(message),
    };
    out.send(wrap(message)).await.map_err(|_| Gone)
}

/// Takes what another replica says of a group; what its data planes think of endpoints comes in a message of its own. `decides`: it leads.
fn hear(groups: &Groups, from: &ReplicaStream, mut state: pb::GroupState, decides: bool) {
    let group = groups.expect(&state.group);
    if let Some(members) = state.members.take() {
        group.health.take_others(from, Some(&members));
    } else {
        group.publisher.hear(from, state, decides);
    }
}

/// A stream of another replica has ended. Unless there is a later one, its data planes count for a while.
fn part(groups: &Arc<Groups>, from: ReplicaStream) {
    let at = Instant::now();
    for group in groups.all() {
        group.publisher.part(&from, at);
        group.health.take_others(&from, None);
    }
    let groups = Arc::clone(groups);
    tokio::spawn(async move {
        sleep(GRACE).await;
        for group in groups.all() {
            group.publisher.forget(&from.replica, at);
        }
    });
}

#[cfg(test)]
mod tests;
