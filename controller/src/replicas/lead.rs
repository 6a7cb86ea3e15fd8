//! The leader's end of the streams of its followers.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use snapshot::pb;
use snapshot::pb::replica_message::Message;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{MESSAGES, Tell, hear, part};
use crate::groups::Groups;
use crate::leader::Leadership;
use crate::publish::ReplicaStream;
use crate::watch::handle::WorldHandle;

/// Followers at a time; there are seldom more than two.
const FOLLOWERS: usize = 16;
/// The first message must have come after this.
const HELLO: Duration = Duration::from_secs(5);

/// Where followers meet this replica while it leads.
#[derive(Clone)]
pub struct Meeting {
    replica: String,
    groups: Arc<Groups>,
    leadership: Leadership,
    /// Remembers versions that serve in place of others.
    world: Option<WorldHandle>,
    /// Shows how many followers there are.
    followers: IntGauge,
    stop: CancellationToken,
    slots: Arc<Semaphore>,
}

impl Meeting {
    /// `replica`: this one's name, which differs after each start. `followers` shows how many there are.
    pub fn new(
        replica: &str,
        groups: &Arc<Groups>,
        leadership: &Leadership,
        world: Option<WorldHandle>,
        followers: IntGauge,
        stop: &CancellationToken,
    ) -> Self {
        Self {
            replica: replica.to_owned(),
            groups: Arc::clone(groups),
            leadership: leadership.clone(),
            world,
            followers,
            stop: stop.clone(),
            slots: Arc::new(Semaphore::new(FOLLOWERS)),
        }
    }
}

impl Meeting {
    /// Takes the stream of a follower.
    pub(crate) fn open(
        &self,
        inbound: Streaming<pb::ReplicaMessage>,
    ) -> Result<ReceiverStream<Result<pb::ReplicaMessage, Status>>, Status> {
        if !self.leadership.holds() {
            return Err(Status::unavailable("this replica does not lead"));
        }
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            return Err(Status::resource_exhausted("there are too many replicas"));
        };
        let (out, messages) = mpsc::channel(MESSAGES);
        let meeting = self.clone();
        tokio::spawn(async move {
            let ended = meeting.run(inbound, &out).await;
            tracing::info!(reason = ended.message(), "a replica's stream ends");
            // It may have gone already.
            drop(out.send(Err(ended)).await);
            drop(slot);
        });
        Ok(ReceiverStream::new(messages))
    }

    async fn run(
        mut self,
        mut inbound: Streaming<pb::ReplicaMessage>,
        out: &mpsc::Sender<Result<pb::ReplicaMessage, Status>>,
    ) -> Status {
        let first = timeout(HELLO, inbound.message()).await;
        let follower = match first {
            Ok(Ok(Some(pb::ReplicaMessage {
                message: Some(Message::Hello(hello)),
            }))) => ReplicaStream::of(hello),
            _ => return Status::invalid_argument("the first message must be Hello"),
        };
        tracing::info!(replica = &*follower.replica, "a replica follows");
        self.followers.inc();
        let tell = Tell::new(&self.groups, Some(&follower.replica), self.world.clone());
        let mut tell = pin!(tell.run(&self.replica, out, Ok));
        let ended = loop {
            tokio::select! {
                // The end comes first: data planes that leave because this replica stops are not said to be gone.
                biased;
                () = self.stop.cancelled() => break Status::unavailable("this replica stops"),
                message = inbound.message() => match message {
                    Ok(Some(message)) => {
                        if let Some(Message::Group(state)) = message.message {
                            hear(&self.groups, &follower, state, false);
                        }
                    }
                    Ok(None) => break Status::cancelled("the replica has ended it"),
                    Err(status) => break status,
                },
                _ = &mut tell => break Status::cancelled("the replica has gone"),
                () = self.leadership.changed() => {
                    if !self.leadership.holds() {
                        break Status::unavailable("this replica leads no more");
                    }
                }
            }
        };
        self.followers.dec();
        part(&self.groups, follower);
        ended
    }
}
