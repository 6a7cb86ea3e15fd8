//! Registries among the sources of endpoints: asked over HTTP for as long as an upstream names them. What they say takes
//! effect in place, as with [`crate::resolve`], and follows the same rules: a failure keeps the last list, for as long
//! as it lasts, and "there is none" is believed the third time in a row.

mod document;

use crate::outside::{chain, dial};
use crate::resolve::Resolver;
use crate::table::{Registered, Registry, Upstream};
use crate::telemetry::Bounded;
use document::Listed;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use model::HttpSource;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

/// Registries that are asked; one more is not, which log and metrics say.
const REGISTRIES: usize = 512;
/// Questions at the same time.
const AT_ONCE: usize = 16;
/// One question, from the connection to the end of the answer.
const LONGEST: Duration = Duration::from_secs(5);
/// Bytes of an answer; a longer one is refused as a whole.
const DOCUMENT: usize = 1 << 20;
/// Empty lists in a row after which they are believed.
const BELIEVED: u32 = 3;
/// No registry is asked more often.
const SHORTEST: Duration = Duration::from_secs(1);
/// Waiting time after failures: from [`SHORTEST`], doubled by each, up to this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// Sees to it that the registries of upstreams are asked.
pub(crate) struct Poller {
    runtime: Handle,
    /// Registries that are asked.
    most: usize,
    shared: Arc<Shared>,
}

struct Shared {
    registry: Arc<Registry>,
    /// For the names among what registries say.
    resolver: Arc<Resolver>,
    running: Mutex<HashMap<Job, Arc<Notify>>>,
    at_once: Semaphore,
    count: Bounded,
}

/// One registry of one upstream.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Job {
    upstream: Arc<str>,
    source: HttpSource,
}

impl Poller {
    /// `count` shows how many are asked, of [`REGISTRIES`].
    pub(crate) fn start(
        runtime: &Handle,
        registry: Arc<Registry>,
        resolver: Arc<Resolver>,
        count: Bounded,
    ) -> Self {
        Self::with(runtime, registry, resolver, count, REGISTRIES)
    }

    fn with(
        runtime: &Handle,
        registry: Arc<Registry>,
        resolver: Arc<Resolver>,
        count: Bounded,
        most: usize,
    ) -> Self {
        Self {
            runtime: runtime.clone(),
            most,
            shared: Arc::new(Shared {
                registry,
                resolver,
                running: Mutex::default(),
                at_once: Semaphore::new(AT_ONCE),
                count,
            }),
        }
    }

    /// Begins with the registries of an upstream that has come or changed.
    pub(crate) fn follow(&self, upstream: &Upstream) {
        for poll in upstream.registries() {
            let job = Job {
                upstream: Arc::clone(&upstream.key),
                source: poll.source,
            };
            let mut running = self.shared.running.lock();
            if let Some(task) = running.get(&job) {
                task.notify_one();
            } else if running.len() < self.most {
                let wake = Arc::new(Notify::new());
                running.insert(job.clone(), Arc::clone(&wake));
                self.shared.count.entries.inc();
                self.runtime
                    .spawn(keep_asking(Arc::clone(&self.shared), job, wake));
            } else {
                self.shared.count.evictions.inc();
                tracing::error!(
                    event = "registries_full",
                    registry = shown(&job.source.url),
                    upstream = &*job.upstream,
                    "a registry is not asked: there are {} already",
                    self.most
                );
            }
        }
    }
}

impl Shared {
    /// The upstream of a job; ends the job where it names the registry no longer. Under the lock, so that an upstream
    /// that comes back at this moment finds either a task that goes on or none.
    fn goes_on(&self, job: &Job) -> Option<Arc<Upstream>> {
        let mut running = self.running.lock();
        let upstream = self.registry.get(&job.upstream);
        let found = upstream.filter(|u| u.registries().iter().any(|p| p.source == job.source));
        if found.is_none() {
            running.remove(job);
            self.count.entries.dec();
        }
        found
    }
}

async fn keep_asking(shared: Arc<Shared>, job: Job, wake: Arc<Notify>) {
    let Job {
        upstream: key,
        source,
    } = &job;
    let interval = Duration::from_millis(source.refresh_ms.into()).max(SHORTEST);
    let mut memory = Memory::default();
    while shared.goes_on(&job).is_some() {
        let said = {
            let _permit = shared.at_once.acquire().await;
            let asked = tokio::time::timeout(LONGEST, ask(source)).await;
            asked.unwrap_or_else(|_| Err("no answer in time".to_owned()))
        };
        // It may have been replaced meanwhile.
        let Some(upstream) = shared.goes_on(&job) else {
            return;
        };
        let (registry, stale) = (shown(&source.url), memory.has_some);
        if let Ok(Listed {
            dropped: Some((count, first)),
            ..
        }) = &said
        {
            tracing::warn!(
                event = "discovery_partly",
                upstream = &**key,
                registry,
                count,
                first,
                "a registry lists what is no endpoint"
            );
        }
        let (take, wait) = memory.take(said, interval);
        if let Err(error) = &take {
            tracing::warn!(
                event = "discovery_failed",
                upstream = &**key,
                registry,
                error,
                stale,
                "a registry did not say which endpoints there are"
            );
        }
        upstream.set_polled(source, take.as_deref().map_err(Clone::clone));
        shared.resolver.follow(&upstream);
        // Up to a tenth sooner, so that data planes that began together do not stay together.
        let wait = wait.mul_f64(rand::random_range(0.9..=1.0)).max(SHORTEST);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = wake.notified() => {}
        }
    }
}

/// What is known of one registry.
#[derive(Default)]
struct Memory {
    /// It has listed endpoints, which serve.
    has_some: bool,
    /// Empty lists in a row.
    nothing: u32,
    /// Answers in a row that left something open.
    troubles: u32,
}

/// What an answer comes to: a list that takes effect, or why there is none.
type Take = Result<Vec<Registered>, String>;

impl Memory {
    /// Judges an answer, and says how long to wait until the next.
    fn take(&mut self, said: Result<Listed, String>, interval: Duration) -> (Take, Duration) {
        let take = match said {
            Err(error) => Err(error),
            Ok(Listed { endpoints, .. }) if endpoints.is_empty() && self.has_some => {
                self.nothing += 1;
                match self.nothing < BELIEVED {
                    true => Err("lists no endpoint any more, which is not believed yet".to_owned()),
                    false => Ok(endpoints),
                }
            }
            Ok(Listed { endpoints, .. }) => Ok(endpoints),
        };
        let mut wait = interval;
        match &take {
            Ok(list) => {
                self.has_some = !list.is_empty();
                (self.nothing, self.troubles) = (0, 0);
            }
            Err(_) => {
                let backoff = SHORTEST.saturating_mul(1 << self.troubles.min(10));
                self.troubles = self.troubles.saturating_add(1);
                wait = wait.min(backoff.min(LONGEST_BACKOFF));
            }
        }
        (take, wait)
    }
}

/// Asks a registry once.
async fn ask(source: &HttpSource) -> Result<Listed, String> {
    let uri: Uri = source.url.parse().map_err(|_| "the URL is not valid")?;
    let stream = dial(&uri, b"http/1.1").await.map_err(|e| chain(&e))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| chain(&e))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(header::HOST, uri.authority().map_or("", |a| a.as_str()))
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, "diolkos-discovery")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| e.to_string())?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|e| chain(&e))?;
        let status = answer.status();
        if status != http::StatusCode::OK {
            // A redirect too: whom to believe is said by the object.
            return Err(format!("answers {status}"));
        }
        let body = Limited::new(answer.into_body(), DOCUMENT).collect().await;
        let body = body.map_err(|e| chain(&*e))?.to_bytes();
        document::read(&body, &source.path)
    };
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = connection => match ended {
            // All of it has come.
            Ok(()) => answer.await,
            Err(e) => Err(chain(&e)),
        },
    }
}

/// A URL without its query, which may hold a key.
fn shown(url: &str) -> &str {
    url.split_once('?').map_or(url, |(shown, _)| shown)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
