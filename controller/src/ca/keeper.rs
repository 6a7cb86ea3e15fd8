//! Keeps the push channel's certificates in two Secrets, and this replica's TLS settings current.
//!
//! Whichever replica comes first makes what is missing (two at once: the second reads what the first wrote). Only the
//! leader renews. Every replica looks again each few minutes, far more often than a root takes to be followed by
//! another. To replace the root at once, delete its Secret: data planes serve on and reconnect when they have read the
//! new certificates.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::{RootCertStore, version::TLS13};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::authority::{Authority, CaError, Data, Leaf};
use crate::leader::Leadership;
use crate::objects::{ApiError, Objects};
use crate::outage::Outage;
use crate::tls;

/// Secret with the roots and the signing key; read by controllers only.
pub const CA_SECRET: &str = "diolkos-push-ca";
/// Secret of the data planes: roots, client certificate and key.
pub const CLIENT_SECRET: &str = "diolkos-push";

const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// How long the API server may take for all of it.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, thiserror::Error)]
pub enum KeeperError {
    #[error("Secret {secret}: {error}")]
    Api {
        secret: &'static str,
        error: ApiError,
    },
    #[error("Secret {secret} cannot be used: {error}; delete it to have a new one made")]
    Unusable {
        secret: &'static str,
        error: CaError,
    },
    #[error(transparent)]
    Ca(#[from] CaError),
}

/// The group of the data planes that serve GatewayConfigs, in the controller's own namespace.
pub fn shared_group(namespace: &str) -> String {
    format!("{namespace}/diolkos-dataplane")
}

/// The certificates as one replica holds them.
pub struct Keeper<S> {
    secrets: S,
    namespace: String,
    state: Mutex<Option<Serving>>,
    config: ArcSwapOption<ServerConfig>,
    replica: ArcSwapOption<Data>,
}

struct Serving {
    roots: String,
    leaf: Leaf,
}

impl<S: Objects<Secret>> Keeper<S> {
    /// `secrets` are those of `namespace`, the controller's own.
    pub fn new(secrets: S, namespace: &str) -> Arc<Self> {
        Arc::new(Self {
            secrets,
            namespace: namespace.to_owned(),
            state: Mutex::new(None),
            config: ArcSwapOption::empty(),
            replica: ArcSwapOption::empty(),
        })
    }

    /// The group of the certificate in [`CLIENT_SECRET`].
    pub fn group(&self) -> String {
        shared_group(&self.namespace)
    }

    /// TLS settings for the next connection. `None` before the first [`Keeper::refresh`] that succeeded.
    pub fn server_config(&self) -> Option<Arc<ServerConfig>> {
        self.config.load_full()
    }

    /// What other replicas are called with next. `None` before the first [`Keeper::refresh`] that succeeded.
    pub fn replica_data(&self) -> Option<Arc<Data>> {
        self.replica.load_full()
    }

    /// The name that certificates of all replicas carry.
    pub fn server_name(&self) -> String {
        format!("diolkos-controller.{}.svc", self.namespace)
    }

    /// Keeps everything current until `stop`.
    pub async fn run(self: Arc<Self>, mut leadership: Leadership, stop: CancellationToken) {
        let mut outage = Outage::default();
        loop {
            let refresh = self.refresh(leadership.holds(), SystemTime::now());
            let error = match timeout(PATIENCE, refresh).await {
                Ok(refreshed) => refreshed.err().map(|error| error.to_string()),
                Err(_) => Some("the API server did not answer".to_owned()),
            };
            let pause = match error {
                None => {
                    if let Some(after) = outage.ends() {
                        tracing::info!(?after, "the push channel's certificates are kept again");
                    }
                    LOOK_AGAIN
                }
                Some(error) => {
                    if let Some(lasting) = outage.fails() {
                        tracing::warn!(
                            error,
                            ?lasting,
                            "cannot keep the push channel's certificates"
                        );
                    }
                    RETRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = leadership.changed() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Reads the Secrets, makes what is missing, renews what is due when leading.
    ///
    /// # Errors
    /// [`KeeperError`]; what was in use stays in use.
    pub async fn refresh(&self, leads: bool, now: SystemTime) -> Result<(), KeeperError> {
        let authority = self.authority(leads, now).await?;
        self.client_certificate(&authority, leads, now).await?;
        let mut state = self.state.lock().await;
        let roots = authority.bundle();
        if state
            .as_ref()
            .is_some_and(|s| s.roots == roots && !s.leaf.is_due(now))
        {
            return Ok(());
        }
        let leaf = authority.server(&self.server_names(), now)?;
        let replica = authority.replica_data(now)?;
        self.config
            .store(Some(Arc::new(server_config(&authority, &leaf)?)));
        self.replica.store(Some(Arc::new(replica)));
        *state = Some(Serving { roots, leaf });
        Ok(())
    }

    /// What the Secret of a group's data planes has to hold, where `held` has to be replaced.
    ///
    /// # Errors
    /// [`KeeperError`]: there is no authority to sign it.
    pub async fn client_data(
        &self,
        group: &str,
        held: Option<&Data>,
        now: SystemTime,
    ) -> Result<Option<Data>, KeeperError> {
        let authority = self.authority(false, now).await?;
        if held.is_some_and(|held| authority.client_data_is_current(held, group, now)) {
            return Ok(None);
        }
        Ok(Some(authority.client_data(group, now)?))
    }

    fn server_names(&self) -> [String; 3] {
        let service = self.server_name();
        [
            format!("{service}.cluster.local"),
            service,
            "localhost".into(),
        ]
    }

    async fn authority(&self, leads: bool, now: SystemTime) -> Result<Authority, KeeperError> {
        let unusable = |error| KeeperError::Unusable {
            secret: CA_SECRET,
            error,
        };
        let found = match self.get(CA_SECRET).await? {
            Some(secret) => secret,
            None => {
                let fresh = Authority::generate(now)?.to_data();
                self.create(CA_SECRET, fresh).await?
            }
        };
        let authority =
            Authority::from_data(found.data.as_ref().unwrap_or(&Data::new())).map_err(unusable)?;
        if !leads {
            return Ok(authority);
        }
        let (authority, changed) = authority.rotated(now)?;
        if changed {
            tracing::info!(secret = CA_SECRET, "the roots of the push channel change");
            self.replace(CA_SECRET, found, authority.to_data()).await?;
        }
        Ok(authority)
    }

    async fn client_certificate(
        &self,
        authority: &Authority,
        leads: bool,
        now: SystemTime,
    ) -> Result<(), KeeperError> {
        let group = self.group();
        let Some(found) = self.get(CLIENT_SECRET).await? else {
            self.create(CLIENT_SECRET, authority.client_data(&group, now)?)
                .await?;
            return Ok(());
        };
        let current = found
            .data
            .as_ref()
            .is_some_and(|d| authority.client_data_is_current(d, &group, now));
        if leads && !current {
            tracing::info!(
                secret = CLIENT_SECRET,
                group,
                "the data planes' certificate is renewed"
            );
            self.replace(CLIENT_SECRET, found, authority.client_data(&group, now)?)
                .await?;
        }
        Ok(())
    }

    async fn get(&self, secret: &'static str) -> Result<Option<Secret>, KeeperError> {
        self.secrets
            .get(secret)
            .await
            .map_err(|error| KeeperError::Api { secret, error })
    }

    /// Creates a Secret, or reads the one that another replica made in the same moment.
    async fn create(&self, secret: &'static str, data: Data) -> Result<Secret, KeeperError> {
        let object = Secret {
            metadata: ObjectMeta {
                name: Some(secret.into()),
                labels: Some(
                    [(
                        "app.kubernetes.io/managed-by".into(),
                        "diolkos-controller".into(),
                    )]
                    .into(),
                ),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".into()),
            data: Some(data),
            ..Secret::default()
        };
        match self.secrets.create(&object).await {
            Ok(created) => Ok(created),
            Err(ApiError::Conflict) => {
                let error = ApiError::Conflict;
                self.get(secret)
                    .await?
                    .ok_or(KeeperError::Api { secret, error })
            }
            Err(error) => Err(KeeperError::Api { secret, error }),
        }
    }

    async fn replace(
        &self,
        secret: &'static str,
        found: Secret,
        data: Data,
    ) -> Result<(), KeeperError> {
        let object = Secret {
            data: Some(data),
            ..found
        };
        let replaced = self.secrets.replace(secret, &object).await;
        replaced
            .map(drop)
            .map_err(|error| KeeperError::Api { secret, error })
    }
}

/// Mutual TLS 1.3. Nothing is resumed: each connection shows its certificate, so that one that is no longer accepted
/// ends with the connection.
///
/// # Errors
/// [`CaError`] when the certificates do not fit together.
pub fn server_config(authority: &Authority, leaf: &Leaf) -> Result<ServerConfig, CaError> {
    let problem = |e: &dyn std::fmt::Display| CaError::Tls(e.to_string());
    let mut roots = RootCertStore::empty();
    for root in authority.roots()? {
        roots.add(root).map_err(|e| problem(&e))?;
    }
    let provider = tls::provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|e| problem(&e))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| problem(&e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![leaf.certificate()], leaf.key()?)
        .map_err(|e| problem(&e))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::fake::Fake;

    const HOUR: Duration = Duration::from_secs(3600);

    fn data(secrets: &Fake<Secret>, name: &str) -> Data {
        secrets.peek(name).unwrap().data.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn replicas_that_start_together_share_one_root() {
        let secrets = Fake::new(7, Duration::from_millis(50), 0.0);
        let keepers: Vec<_> = (0..3).map(|_| Keeper::new(secrets.clone(), "ns")).collect();
        let now = SystemTime::now();
        let (a, b, c) = tokio::join!(
            keepers[0].refresh(false, now),
            keepers[1].refresh(true, now),
            keepers[2].refresh(false, now)
        );
        a.and(b).and(c).unwrap();
        let root = Authority::from_data(&data(&secrets, CA_SECRET)).unwrap();
        assert!(root.client_data_is_current(
            &data(&secrets, CLIENT_SECRET),
            "ns/diolkos-dataplane",
            now
        ));
        for keeper in keepers {
            assert_eq!(
                keeper.state.lock().await.as_ref().unwrap().roots,
                root.bundle()
            );
        }
    }

    #[tokio::test]
    async fn only_the_leader_renews() {
        let secrets = Fake::reliable();
        let keeper = Keeper::new(secrets.clone(), "ns");
        let now = SystemTime::now();
        keeper.refresh(false, now).await.unwrap();
        let first = data(&secrets, CLIENT_SECRET);
        let config = keeper.server_config().unwrap();

        keeper.refresh(false, now + 13 * HOUR).await.unwrap();
        assert!(data(&secrets, CLIENT_SECRET) == first);
        assert!(
            !Arc::ptr_eq(&config, &keeper.server_config().unwrap()),
            "each replica renews its own certificate"
        );

        keeper.refresh(true, now + 13 * HOUR).await.unwrap();
        assert!(data(&secrets, CLIENT_SECRET) != first);
        let renewed = data(&secrets, CLIENT_SECRET);
        keeper.refresh(true, now + 14 * HOUR).await.unwrap();
        assert!(data(&secrets, CLIENT_SECRET) == renewed);
    }

    #[tokio::test]
    async fn a_deleted_root_is_made_anew_with_what_it_signed() {
        let secrets = Fake::reliable();
        let keeper = Keeper::new(secrets.clone(), "ns");
        let now = SystemTime::now();
        keeper.refresh(true, now).await.unwrap();
        let old = data(&secrets, CA_SECRET);
        secrets.delete(CA_SECRET);
        keeper.refresh(true, now).await.unwrap();
        assert!(data(&secrets, CA_SECRET) != old);
        let root = Authority::from_data(&data(&secrets, CA_SECRET)).unwrap();
        assert!(root.client_data_is_current(&data(&secrets, CLIENT_SECRET), &keeper.group(), now));
    }

    #[tokio::test]
    async fn an_unusable_secret_is_named_and_left_alone() {
        let secrets = Fake::reliable();
        let keeper = Keeper::new(secrets.clone(), "ns");
        keeper.create(CA_SECRET, Data::new()).await.unwrap();
        let error = keeper
            .refresh(true, SystemTime::now())
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("diolkos-push-ca") && error.contains("tls.crt is missing"),
            "{error}"
        );
        assert!(keeper.server_config().is_none());
        assert!(data(&secrets, CA_SECRET).is_empty());
    }
}
