//! Where controllers are: what their name says, and while it cannot be looked up, where they were found last. The name is that
//! of a Service, whose address stays.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use hyper_util::client::legacy::connect::dns::Name;
use parking_lot::Mutex;
use tokio::time::timeout;
use tower::Service;

/// A lookup that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(3);
/// Addresses that are remembered.
const MOST: usize = 16;

/// Looks up one name, over and over.
#[derive(Clone)]
pub(super) struct Lookup<R> {
    resolver: R,
    last: Arc<Mutex<Vec<SocketAddr>>>,
}

impl<R> Lookup<R> {
    pub(super) fn new(resolver: R) -> Self {
        Self {
            resolver,
            last: Arc::default(),
        }
    }
}

impl<R> Service<Name> for Lookup<R>
where
    R: Service<Name, Error = io::Error>,
    R::Response: Iterator<Item = SocketAddr>,
    R::Future: Send + 'static,
{
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.resolver.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let last = Arc::clone(&self.last);
        let asked = name.to_string();
        let answer = self.resolver.call(name);
        Box::pin(async move {
            let found = match timeout(PATIENCE, answer).await {
                Ok(found) => found.map(|found| found.take(MOST).collect::<Vec<_>>()),
                Err(late) => Err(late.into()),
            };
            let mut last = last.lock();
            match found {
                Ok(found) => last.clone_from(&found),
                Err(error) if last.is_empty() => return Err(error),
                Err(error) => {
                    tracing::info!(name = asked, %error, "it cannot be looked up: controllers are tried where they were last");
                }
            }
            Ok(last.clone().into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tower::service_fn;

    #[tokio::test(start_paused = true)]
    async fn what_was_found_last_counts_while_names_cannot_be_looked_up() {
        let [one, two]: [SocketAddr; 2] = [([10, 0, 0, 1], 0).into(), ([10, 0, 0, 2], 0).into()];
        let asked = AtomicUsize::new(0);
        let resolver = service_fn(move |_: Name| {
            let turn = asked.fetch_add(1, Ordering::Relaxed);
            async move {
                match turn {
                    1 => Ok(vec![one].into_iter()),
                    2 => pending().await,
                    4 => Ok(vec![two].into_iter()),
                    _ => Err(io::Error::other("no name server")),
                }
            }
        });
        let mut lookup = Lookup::new(resolver);
        let mut found = Vec::new();
        for _ in 0..6 {
            let name = "controllers".parse().unwrap();
            let addresses = lookup.call(name).await;
            found.push(addresses.map(Iterator::collect::<Vec<_>>).ok());
        }
        let expected = [
            None,
            Some(vec![one]),
            Some(vec![one]),
            Some(vec![one]),
            Some(vec![two]),
            Some(vec![two]),
        ];
        assert_eq!(found, expected);
    }
}
