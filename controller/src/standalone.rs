//! `diolkos run DIR`: the control plane on a directory, in one process with the data plane.
//!
//! One thread owns loader, world and translator. It reloads when files change, publishes what came of it, and leaves a
//! view of problems and conditions for whoever asks.

use crate::load::{LoadProblem, Loaded, Loader};
use crate::publish::Publisher;
use crate::report::{Findings, ObjectReport, Programmed, Progress, Report, Severity};
use crate::translate::{Resources, Translation, Translator};
use crate::world::{Object, ObjectId, World};
use model::Model;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::RwLock;
use serde_json::{Map, Value};
use snapshot::{Kind, ResourceId};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// After a reload, changes of this time are taken together.
const QUIET: Duration = Duration::from_millis(50);
/// Changes that never cease are reloaded this often.
const AT_MOST: Duration = Duration::from_secs(1);
/// How often certificates are judged by their age.
const JUDGE: Duration = Duration::from_secs(3600);
/// Changed resources that a line of the log names.
const TOLD: usize = 10;

/// One reading of some directories, for `validate`, `translate` and `explain`.
pub struct Checked {
    pub translation: Translation,
    pub world: World,
    /// Of files, admission and translation, by file and line.
    pub problems: Vec<LoadProblem>,
    /// Kinds that are not read.
    pub notes: Vec<String>,
}

impl Checked {
    /// Whether nothing is wrong that a condition would call False.
    pub fn is_good(&self) -> bool {
        self.problems
            .iter()
            .all(|p| p.severity == Severity::Warning)
    }

    /// `Kind/namespace/name` → status, as far as it can be known without data planes.
    pub fn statuses(&self) -> Map<String, Value> {
        let Translation { resources, report } = &self.translation;
        report.statuses(|_| Programmed::Unknown, &Findings::default(), resources)
    }
}

/// Reads and translates once.
pub fn check(dirs: &[PathBuf]) -> Checked {
    let mut state = State::new(Loader::new(dirs.to_vec()));
    let loaded = state.loader.load();
    let (problems, notes) = state.take(loaded).1;
    Checked {
        translation: Translation {
            resources: state.translator.resources().clone(),
            report: state.translator.report().clone(),
        },
        world: state.world,
        problems,
        notes,
    }
}

/// Why a directory cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
    #[error("cannot watch {}: {source}", path.display())]
    Watch {
        path: PathBuf,
        source: notify::Error,
    },
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Follows directories until it is dropped.
pub struct Standalone {
    view: Arc<RwLock<View>>,
    publisher: Arc<Publisher>,
    signals: SyncSender<Signal>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is told.
enum Signal {
    Changed,
    Stop,
}

/// What others may see.
#[derive(Default)]
struct View {
    report: Report,
    problems: Vec<LoadProblem>,
    resources: Resources,
}

impl Standalone {
    /// Loads and publishes; when this returns, the publisher is ready. What is wrong in the files is no error: it is
    /// logged and stands in the status.
    ///
    /// # Errors
    /// [`StandaloneError`] when a directory cannot be watched.
    pub fn start(dirs: Vec<PathBuf>, publisher: Arc<Publisher>) -> Result<Self, StandaloneError> {
        Self::follow(Loader::new(dirs), publisher)
    }

    fn follow(loader: Loader, publisher: Arc<Publisher>) -> Result<Self, StandaloneError> {
        // One waiting wish to reload is enough: a reload reads everything.
        let (signals, received) = sync_channel(1);
        let on_change = signals.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| concerns_content(&event.kind)) {
                let _ = on_change.try_send(Signal::Changed);
            }
        });
        let mut follower = Follower {
            watcher: watcher.map_err(|source| StandaloneError::Watch {
                path: PathBuf::new(),
                source,
            })?,
            state: State::new(loader),
            publisher: Arc::clone(&publisher),
            view: Arc::default(),
            known: BTreeSet::new(),
        };
        // Watching begins before the first reading, so that no change falls between the two.
        follower.watch()?;
        follower.reload();
        let view = Arc::clone(&follower.view);
        let thread = std::thread::Builder::new().name("reload".into());
        let thread = thread.spawn(move || follower.run(&received))?;
        Ok(Self {
            view,
            publisher,
            signals,
            thread: Some(thread),
        })
    }

    /// `Kind/namespace/name` → status, for `/api/v1/status`. `findings`: of the data plane.
    pub fn status(&self, findings: &Findings) -> Map<String, Value> {
        let publisher = &self.publisher;
        let view = self.view.read();
        let progress = |report: &ObjectReport| {
            let whole = publisher.programmed(&report.resources);
            let of = |some: &[ResourceId]| publisher.programmed(some);
            Progress::new(whole, report, &view.resources, of)
        };
        view.report.statuses(progress, findings, &view.resources)
    }

    /// What is wrong in the files now, by file and line.
    pub fn problems(&self) -> Vec<LoadProblem> {
        self.view.read().problems.clone()
    }

    /// What is served, for `/api/v1/model`.
    pub fn model(&self) -> Model {
        self.view.read().resources.model()
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        // Waits while a change is in the way; an error means that the thread has ended already.
        let _ = self.signals.send(Signal::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reading files is an event too, and must not lead to reading them again.
fn concerns_content(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

/// Loader, world and translator: everything that one reading changes.
struct State {
    loader: Loader,
    world: World,
    translator: Translator,
}

type Complaints = (Vec<LoadProblem>, Vec<String>);

impl State {
    fn new(loader: Loader) -> Self {
        Self {
            loader,
            world: World::default(),
            translator: Translator::default(),
        }
    }

    /// Brings the world to what was loaded.
    fn take(&mut self, loaded: Loaded) -> (crate::translate::Delta, Complaints) {
        let Loaded {
            objects,
            mut problems,
            notes,
        } = loaded;
        let present: BTreeSet<&ObjectId> = objects.iter().map(|object| &object.id).collect();
        let gone = self.world.ids().filter(|id| !present.contains(id));
        let gone: Vec<ObjectId> = gone.cloned().collect();
        let mut dirty = BTreeSet::new();
        for id in gone {
            self.world.remove(&id);
            dirty.insert(id);
        }
        for mut object in objects {
            let id = object.id.clone();
            self.count_generation(&mut object);
            if self.world.apply(object) {
                dirty.insert(id);
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        self.world.set_now(i64::try_from(now).unwrap_or(i64::MAX));
        // Certificates are judged anew by their age.
        let ids = self.world.ids().filter(|id| id.kind.has_values());
        dirty.extend(ids.cloned());
        let delta = self.translator.update(&self.world, &dirty);
        for problem in self.translator.report().problems() {
            let refused = self
                .world
                .get(&problem.origin)
                .is_some_and(Object::is_refused);
            problems.extend(self.loader.place(problem, refused));
        }
        problems.sort();
        (delta, (problems, notes))
    }

    /// Files seldom say a generation: each other version of an object counts one, as the API server does.
    fn count_generation(&self, object: &mut Object) {
        if object.meta.generation != 0 {
            return;
        }
        object.meta.generation = match self.world.get(&object.id) {
            None => 1,
            Some(old) if old.body == object.body => old.meta.generation,
            Some(old) => old.meta.generation.saturating_add(1),
        };
    }
}

struct Follower {
    watcher: RecommendedWatcher,
    state: State,
    publisher: Arc<Publisher>,
    view: Arc<RwLock<View>>,
    /// Problems that have been logged and still stand.
    known: BTreeSet<LoadProblem>,
}

impl Follower {
    /// Reloads at once, then waits for quiet and reloads what came meanwhile.
    fn run(mut self, signals: &Receiver<Signal>) {
        loop {
            match signals.recv_timeout(JUDGE) {
                Ok(Signal::Changed) | Err(RecvTimeoutError::Timeout) => self.reload(),
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
            let first = Instant::now();
            let mut again = false;
            while first.elapsed() < AT_MOST {
                match signals.recv_timeout(QUIET) {
                    Ok(Signal::Changed) => again = true,
                    Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => break,
                }
            }
            if again {
                self.reload();
            }
        }
    }

    fn watch(&mut self) -> Result<(), StandaloneError> {
        let roots: Vec<PathBuf> = self.state.loader.roots().map(Path::to_owned).collect();
        for root in roots {
            let watched = self.watcher.watch(&root, RecursiveMode::Recursive);
            watched.map_err(|source| StandaloneError::Watch {
                path: root.clone(),
                source,
            })?;
            // A link may be pointed elsewhere, and a single file replaced: both happen in the directory around.
            let is_link = std::fs::symlink_metadata(&root).is_ok_and(|m| m.is_symlink());
            if (is_link || root.is_file())
                && let Some(parent) = root.parent()
            {
                let parent = match parent.as_os_str().is_empty() {
                    true => Path::new("."),
                    false => parent,
                };
                let watched = self.watcher.watch(parent, RecursiveMode::NonRecursive);
                watched.map_err(|source| StandaloneError::Watch {
                    path: parent.to_owned(),
                    source,
                })?;
            }
        }
        Ok(())
    }

    fn reload(&mut self) {
        let observed = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let observed = u64::try_from(observed.as_nanos()).unwrap_or(0);
        let loaded = self.state.loader.load();
        let (delta, (problems, notes)) = self.state.take(loaded);
        // The view comes first: whoever is told of a generation finds its status.
        *self.view.write() = View {
            report: self.state.translator.report().clone(),
            problems: problems.clone(),
            resources: self.state.translator.resources().clone(),
        };
        let changed = delta.resources.len();
        let named = delta.resources.keys().take(TOLD);
        let named: Vec<String> = named.map(|(kind, key)| format!("{kind:?} {key}")).collect();
        let generation = self.publisher.publish(delta.resources, observed);
        self.log(problems, &notes);
        if changed > 0 {
            let routes = self.state.translator.resources().count(Kind::Route);
            let revision = self.publisher.cursor().digest.revision().to_string();
            tracing::info!(
                event = "diff_config",
                generation,
                revision,
                changed,
                resources = named.join(", "),
                routes,
                "configuration loaded"
            );
        }
        // New directories below a link, and links that were pointed elsewhere.
        if let Err(e) = self.watch() {
            tracing::debug!(error = %e, "watching again");
        }
    }

    /// Each problem once, for as long as it stands.
    fn log(&mut self, problems: Vec<LoadProblem>, notes: &[String]) {
        let problems: BTreeSet<LoadProblem> = problems.into_iter().collect();
        if self.known.is_empty() {
            for note in notes {
                tracing::debug!("{note}");
            }
        }
        for p in problems.difference(&self.known) {
            let file = p.file.display().to_string();
            let (line, field, message) = (p.line, &p.field, &p.message);
            let object = p.object.as_ref();
            let kind = object.map_or("", |o| o.kind.name());
            let namespace = object.map_or("", |o| &*o.namespace);
            let name = object.map_or("", |o| &*o.name);
            match p.severity {
                Severity::Error => {
                    tracing::error!(file, line, kind, namespace, name, field, "{message}");
                }
                Severity::Warning => {
                    tracing::warn!(file, line, kind, namespace, name, field, "{message}");
                }
            }
        }
        self.known = problems;
    }
}

#[cfg(test)]
#[path = "standalone_tests.rs"]
mod tests;
