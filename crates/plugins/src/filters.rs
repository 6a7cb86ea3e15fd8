//! The body filters of one exchange, run one after the other.

use crate::meter::panicked;
use crate::{BodyFilter, Failure, Meter};
use bytes::Bytes;
use model::FailurePolicy;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The body filters of one exchange, run one after the other.
#[derive(Default)]
pub struct Filters(Vec<Passing>);

/// A filter at work on one body.
pub struct Passing {
    filter: Box<dyn BodyFilter>,
    policy: FailurePolicy,
    meter: Option<Arc<dyn Meter>>,
    /// What it took so far; `None`: it has had nothing to do.
    spent: Option<Duration>,
    /// It panicked, and is asked nothing more.
    fallen: bool,
}

impl Passing {
    pub(crate) fn new(
        filter: Box<dyn BodyFilter>,
        policy: FailurePolicy,
        meter: Option<Arc<dyn Meter>>,
    ) -> Self {
        Self {
            filter,
            policy,
            meter,
            spent: None,
            fallen: false,
        }
    }

    fn run(
        &mut self,
        work: impl FnOnce(&mut dyn BodyFilter) -> Result<Bytes, Failure>,
    ) -> Result<Bytes, Failure> {
        if self.fallen {
            return Err(Failure("it panicked before".into()));
        }
        let begun = Instant::now();
        let run = AssertUnwindSafe(|| work(&mut *self.filter));
        let result = catch_unwind(run).unwrap_or_else(|_| {
            self.fallen = true;
            Err(panicked(self.meter.as_deref()))
        });
        let Some(meter) = &self.meter else {
            return result;
        };
        *self.spent.get_or_insert_default() += begun.elapsed();
        if result.is_err() {
            meter.failed(self.policy);
        }
        result
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if let (Some(meter), Some(spent)) = (&self.meter, self.spent) {
            meter.took(spent);
        }
    }
}

impl FromIterator<Passing> for Filters {
    fn from_iter<I: IntoIterator<Item = Passing>>(filters: I) -> Self {
        Self(filters.into_iter().collect())
    }
}

impl Filters {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts a filter behind the others.
    pub fn push(&mut self, filter: Passing) {
        self.0.push(filter);
    }

    /// Puts these behind the others.
    pub fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    /// A whole body.
    ///
    /// # Errors
    /// As [`Filters::chunk`].
    pub fn whole(&mut self, data: Bytes) -> Result<Bytes, Failure> {
        let head = self.chunk(data)?;
        Ok(join(head, self.end()?))
    }

    /// # Errors
    /// The [`Failure`] of a filter under `failurePolicy: Fail`; the exchange is aborted.
    pub fn chunk(&mut self, mut data: Bytes) -> Result<Bytes, Failure> {
        for one in &mut self.0 {
            let before = data.clone();
            data = match one.run(|filter| filter.chunk(data)) {
                Ok(data) => data,
                Err(_) if one.policy == FailurePolicy::Ignore => before,
                Err(e) => return Err(e),
            };
        }
        Ok(data)
    }

    /// What the filters still hold, each passed through the filters behind it.
    ///
    /// # Errors
    /// As [`Filters::chunk`].
    pub fn end(&mut self) -> Result<Bytes, Failure> {
        self.drain(|filter| filter.end())
    }

    /// What the filters hold back and can give at a pause, each passed through the filters behind it.
    ///
    /// # Errors
    /// As [`Filters::chunk`].
    pub fn flush(&mut self) -> Result<Bytes, Failure> {
        self.drain(|filter| filter.flush())
    }

    fn drain(
        &mut self,
        give: impl Fn(&mut dyn BodyFilter) -> Result<Bytes, Failure>,
    ) -> Result<Bytes, Failure> {
        let mut tail = Bytes::new();
        for one in &mut self.0 {
            let both = one.run(|filter| {
                let passed = if tail.is_empty() {
                    Bytes::new()
                } else {
                    filter.chunk(tail.clone())?
                };
                Ok(join(passed, give(filter)?))
            });
            tail = match both {
                Ok(data) => data,
                Err(_) if one.policy == FailurePolicy::Ignore => tail,
                Err(e) => return Err(e),
            };
        }
        Ok(tail)
    }
}

fn join(a: Bytes, b: Bytes) -> Bytes {
    match (a.is_empty(), b.is_empty()) {
        (true, _) => b,
        (_, true) => a,
        _ => [a, b].concat().into(),
    }
}
