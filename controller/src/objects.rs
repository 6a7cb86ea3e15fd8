//! The few single objects that the controller writes for itself: the leader's Lease and the Secrets of the push channel.
//!
//! Reading, creating and replacing stand behind a trait, so that elections and first starts of several replicas can be
//! simulated without an API server.

use std::fmt::Debug;
use std::future::Future;

use kube::Api;
use kube::api::PostParams;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a write or read of one object did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// Somebody else was first: it exists already, it is gone, or its resourceVersion moved.
    #[error("somebody else changed it first")]
    Conflict,
    /// The request was refused or the server did not answer. The outcome of a write is unknown.
    #[error("{0}")]
    Failed(String),
}

/// Objects of one kind in one namespace.
pub trait Objects<K>: Send + Sync + 'static {
    /// `None`: there is no such object.
    fn get(&self, name: &str) -> impl Future<Output = Result<Option<K>, ApiError>> + Send;

    /// # Errors
    /// [`ApiError::Conflict`] when it exists.
    fn create(&self, object: &K) -> impl Future<Output = Result<K, ApiError>> + Send;

    /// Writes back an object that was read before.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] when it changed since, by its resourceVersion.
    fn replace(&self, name: &str, object: &K) -> impl Future<Output = Result<K, ApiError>> + Send;
}

impl<K> Objects<K> for Api<K>
where
    K: Clone + Debug + DeserializeOwned + Serialize + Send + Sync + 'static,
{
    async fn get(&self, name: &str) -> Result<Option<K>, ApiError> {
        Ok(self.get_opt(name).await?)
    }

    async fn create(&self, object: &K) -> Result<K, ApiError> {
        Ok(Self::create(self, &PostParams::default(), object).await?)
    }

    async fn replace(&self, name: &str, object: &K) -> Result<K, ApiError> {
        Ok(Self::replace(self, name, &PostParams::default(), object).await?)
    }
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if matches!(status.code, 404 | 409) => Self::Conflict,
            // The body of a status names the object and the missing right, never its content.
            kube::Error::Api(status) => Self::Failed(status.message),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// An API server for tests: objects in memory, versions that move, answers that come late or not at all.
#[cfg(test)]
pub(crate) mod fake {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use kube::ResourceExt;
    use parking_lot::Mutex;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::{ApiError, Objects};

    pub(crate) struct Fake<K> {
        state: Arc<Mutex<State<K>>>,
        /// Longest time that a request or an answer travels.
        delay: Duration,
    }

    struct State<K> {
        /// Share of requests that get lost on the way, and again of answers.
        lost: f64,
        objects: BTreeMap<String, K>,
        version: u64,
        random: StdRng,
    }

    impl<K> Clone for Fake<K> {
        fn clone(&self) -> Self {
            Self {
                state: Arc::clone(&self.state),
                delay: self.delay,
            }
        }
    }

    impl<K: Clone + kube::Resource> Fake<K> {
        pub(crate) fn new(seed: u64, delay: Duration, lost: f64) -> Self {
            let random = StdRng::seed_from_u64(seed);
            let state = State {
                lost,
                objects: BTreeMap::new(),
                version: 0,
                random,
            };
            Self {
                state: Arc::new(Mutex::new(state)),
                delay,
            }
        }

        pub(crate) fn reliable() -> Self {
            Self::new(0, Duration::ZERO, 0.0)
        }

        pub(crate) fn peek(&self, name: &str) -> Option<K> {
            self.state.lock().objects.get(name).cloned()
        }

        /// From now on no message arrives.
        pub(crate) fn lose_everything(&self) {
            self.state.lock().lost = 1.0;
        }

        pub(crate) fn delete(&self, name: &str) {
            self.state.lock().objects.remove(name);
        }

        /// One way of the journey. A lost message is noticed after a long time only.
        async fn travel(&self) -> Result<(), ApiError> {
            if self.delay.is_zero() {
                return Ok(());
            }
            let (delay, lost) = {
                let State { random, lost, .. } = &mut *self.state.lock();
                (
                    self.delay.mul_f64(random.random()),
                    random.random_bool(*lost),
                )
            };
            tokio::time::sleep(if lost {
                Duration::from_secs(3600)
            } else {
                delay
            })
            .await;
            if lost {
                Err(ApiError::Failed("timeout".into()))
            } else {
                Ok(())
            }
        }

        fn write(&self, name: &str, object: &K, must_exist: bool) -> Result<K, ApiError> {
            let mut state = self.state.lock();
            let same = match (state.objects.get(name), must_exist) {
                (None, false) => true,
                (Some(old), true) => old.resource_version() == object.resource_version(),
                _ => false,
            };
            if !same {
                return Err(ApiError::Conflict);
            }
            state.version += 1;
            let mut written = object.clone();
            written.meta_mut().resource_version = Some(state.version.to_string());
            state.objects.insert(name.to_owned(), written.clone());
            Ok(written)
        }
    }

    impl<K: Clone + kube::Resource + Send + Sync + 'static> Objects<K> for Fake<K> {
        async fn get(&self, name: &str) -> Result<Option<K>, ApiError> {
            self.travel().await?;
            let found = self.peek(name);
            self.travel().await?;
            Ok(found)
        }

        async fn create(&self, object: &K) -> Result<K, ApiError> {
            self.travel().await?;
            let written = self.write(&object.name_any(), object, false);
            self.travel().await?;
            written
        }

        async fn replace(&self, name: &str, object: &K) -> Result<K, ApiError> {
            self.travel().await?;
            let written = self.write(name, object, true);
            self.travel().await?;
            written
        }
    }
}
