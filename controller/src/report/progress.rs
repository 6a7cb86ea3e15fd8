//! How far an object has come in the data planes, and each of its listeners.

use super::{ListenerReport, ObjectReport};
use crate::translate::Resources;
use model::Listener;
use snapshot::{Kind, ResourceId, Revision};
use std::collections::BTreeMap;

/// How far an object has come in the data planes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Programmed {
    /// All data planes have acknowledged it.
    Yes,
    /// Some have not answered yet.
    Pending,
    /// No data plane needs it, since nothing that serves refers to it.
    Unused,
    /// None is connected.
    NoDataPlane,
    /// The Pod of this name serves and is connected to no controller: it lacks what has changed since it was missed, and
    /// what it holds of all else is not known.
    CutOff { pod: String, lacks: bool },
    /// One refused it, with this message: all have what was accepted before.
    Rejected(String),
    /// One refuses what others have, with its name and message.
    Lacking(String),
    /// One is too old for it, with its name and what it lacks.
    TooOld(String),
    /// One could not open a listener, with the reason.
    NotBound(String),
    /// The object is held as it was at this revision.
    RolledBack(Revision),
    /// Nobody asks: `diolkos translate` has no data planes.
    Unknown,
}

impl Programmed {
    /// Larger is worse: what is said of an object that is in several places.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Unused => 0,
            Self::Yes => 1,
            Self::CutOff { lacks: false, .. } => 2,
            Self::Unknown => 3,
            Self::Pending => 4,
            Self::CutOff { lacks: true, .. } => 5,
            Self::NoDataPlane => 6,
            Self::NotBound(_) => 7,
            Self::TooOld(_) => 8,
            Self::Lacking(_) => 9,
            Self::Rejected(_) => 10,
            Self::RolledBack(_) => 11,
        }
    }

    /// Whether data planes have yet to answer.
    pub(crate) fn waits(&self) -> bool {
        !matches!(self, Self::Yes | Self::Unused | Self::RolledBack(_))
    }
}

/// How far an object has come, and what of its listeners have come less far or further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub whole: Programmed,
    /// By their keys, those that may not be as the whole is.
    listeners: BTreeMap<String, Programmed>,
}

impl Progress {
    /// `whole`: of the object. `of`: how far some of its resources have come.
    pub(crate) fn new(
        whole: Programmed,
        report: &ObjectReport,
        resources: &Resources,
        of: impl Fn(&[ResourceId]) -> Programmed,
    ) -> Self {
        let mut listeners = BTreeMap::new();
        let differ = matches!(
            whole,
            Programmed::Pending
                | Programmed::CutOff { .. }
                | Programmed::NotBound(_)
                | Programmed::Lacking(_)
                | Programmed::TooOld(_)
                | Programmed::Rejected(_)
        );
        for listener in report.listeners.iter().filter(|_| differ) {
            let key = &listener.key;
            let Some(serving) = resources.get::<Listener>(key) else {
                continue;
            };
            let tls = serving.tls.iter();
            let shown = tls.flat_map(|tls| tls.certificates.iter().chain(&tls.default_certificate));
            let shown = shown.chain(&serving.backend_certificate);
            let certificates = shown.map(|key| (Kind::Certificate, key.as_str().into()));
            let mut own = vec![(Kind::Listener, key.as_str().into())];
            own.extend(certificates);
            listeners.insert(key.clone(), of(&own));
        }
        Self { whole, listeners }
    }

    pub(super) fn of(&self, listener: &ListenerReport) -> &Programmed {
        self.listeners.get(&listener.key).unwrap_or(&self.whole)
    }
}

/// Of an object whose listeners are all as it is.
impl From<Programmed> for Progress {
    fn from(whole: Programmed) -> Self {
        let listeners = BTreeMap::new();
        Self { whole, listeners }
    }
}

impl From<&Programmed> for Progress {
    fn from(whole: &Programmed) -> Self {
        whole.clone().into()
    }
}
