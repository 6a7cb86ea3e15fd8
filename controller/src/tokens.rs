//! Whether a data plane is a Pod that its certificate's group is for, and which one: its projected service-account token,
//! reviewed by the API server (features.md F83). A certificate alone is what anybody has who reads the Secret of the group.
//!
//! A token is sent when a stream opens, and what was accepted stays so for the life of the stream: a quarter of an hour at
//! most, and for as long as the API server does not answer. Meanwhile new streams are refused unless their token was
//! reviewed a moment ago.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};
use snapshot::Hash;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tonic::metadata::MetadataMap;

use crate::outage::Outage;

/// For whom the tokens of data planes are made out. A token for the API server or for anybody else is refused.
pub const AUDIENCE: &str = "diolkos-controller";

/// How long the API server's word counts: that a token is good, and that it is not.
const GOOD: Duration = Duration::from_secs(60);
const BAD: Duration = Duration::from_secs(10);
/// Tokens that are remembered, by their hashes.
const REMEMBERED: usize = 4096;
/// Longest token that is read.
const MAX_BYTES: usize = 16 * 1024;
/// Reviews under way; others wait.
const REVIEWS: usize = 16;
/// One review, and the wait for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it is believed that the API server answers, or does not.
const HEARD: Duration = Duration::from_secs(10);
/// Longest pause before it is looked whether it answers again; the shortest is half of it.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// What the API server says of a token beside its account: the Pod that it is bound to.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
/// Nobody's token.
const NOBODYS: &str = "-";

/// Why a token is not accepted. Never holds any of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("no token of the Pod's service account is sent")]
    Missing,
    #[error("the token is not one")]
    Malformed,
    #[error("the API server does not accept the token: {0}")]
    Refused(String),
    #[error("the token is that of {is}, and the certificate that of {group}")]
    Another { is: String, group: String },
    #[error("the API server cannot be asked about the token: {0}")]
    Unreachable(String),
}

/// Whose a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its service account, as `NAMESPACE/NAME`.
    account: String,
    pub name: String,
    pub uid: String,
}

/// Asks the API server about a token.
type Review =
    Box<dyn Fn(String) -> BoxFuture<'static, Result<TokenReviewStatus, String>> + Send + Sync>;

/// See the module.
pub struct Tokens {
    review: Review,
    known: Mutex<HashMap<Hash, Known>>,
    slots: Semaphore,
    /// Whether the API server answered when it was last asked, and when that was.
    heard: Mutex<Option<(bool, Instant)>>,
    outage: Mutex<Outage>,
    entries: IntGauge,
    evictions: IntCounter,
}

#[derive(Clone)]
struct Known {
    pod: Result<Pod, TokenError>,
    until: Instant,
}

impl Tokens {
    /// `entries` and `evictions` are about the tokens that are remembered.
    pub fn new(client: Client, entries: IntGauge, evictions: IntCounter) -> Arc<Self> {
        let reviews: Api<TokenReview> = Api::all(client);
        let review: Review = Box::new(move |token| {
            let reviews = reviews.clone();
            Box::pin(async move {
                let review = TokenReview {
                    spec: TokenReviewSpec {
                        token,
                        audiences: Some(vec![AUDIENCE.to_owned()]),
                    },
                    ..TokenReview::default()
                };
                let answer = reviews.create(&PostParams::default(), &review).await;
                match answer {
                    Ok(review) => Ok(review.status.unwrap_or_default()),
                    // Its message may repeat what was sent.
                    Err(kube::Error::Api(status)) => Err(format!("code {}", status.code)),
                    Err(_) => Err("no answer".to_owned()),
                }
            })
        });
        Self::reviewing(review, entries, evictions)
    }

    fn reviewing(review: Review, entries: IntGauge, evictions: IntCounter) -> Arc<Self> {
        Arc::new(Self {
            review,
            known: Mutex::default(),
            slots: Semaphore::new(REVIEWS),
            heard: Mutex::default(),
            outage: Mutex::default(),
            entries,
            evictions,
        })
    }

    /// The Pod of `group` that a stream with this metadata comes from. A group's name is that of its service account.
    ///
    /// # Errors
    /// [`TokenError`]: the stream is not to be opened.
    pub async fn check(&self, metadata: &MetadataMap, group: &str) -> Result<Pod, TokenError> {
        let pod = self.pod(of(metadata)?).await?;
        match pod.account == group {
            true => Ok(pod),
            false => Err(TokenError::Another {
                is: pod.account,
                group: group.to_owned(),
            }),
        }
    }

    async fn pod(&self, token: &str) -> Result<Pod, TokenError> {
        let hash = Hash::of(token.as_bytes());
        let known = self.known.lock().get(&hash).cloned();
        if let Some(known) = known.filter(|k| Instant::now() < k.until) {
            return known.pod;
        }
        let pod = judged(&self.ask(token).await?);
        let holds = match pod.is_ok() {
            true => GOOD,
            false => BAD,
        };
        self.remember(
            hash,
            Known {
                pod: pod.clone(),
                until: Instant::now() + holds,
            },
        );
        pod
    }

    /// Returns when the API server answers about tokens. Before that a stream that ends does not come back.
    pub async fn answered(&self) {
        while !self.answers().await {
            sleep(LOOK_AGAIN.mul_f64(0.5 + 0.5 * rand::random::<f64>())).await;
        }
    }

    async fn answers(&self) -> bool {
        let heard = *self.heard.lock();
        match heard.filter(|(_, at)| at.elapsed() < HEARD) {
            Some((answers, _)) => answers,
            None => self.ask(NOBODYS).await.is_ok(),
        }
    }

    async fn ask(&self, token: &str) -> Result<TokenReviewStatus, TokenError> {
        let asked = async {
            let _slot = self.slots.acquire().await;
            (self.review)(token.to_owned()).await
        };
        let answer = timeout(PATIENCE, asked).await;
        let answer = answer.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        *self.heard.lock() = Some((answer.is_ok(), Instant::now()));
        let mut outage = self.outage.lock();
        match &answer {
            Ok(_) => {
                if let Some(after) = outage.ends() {
                    tracing::info!(
                        ?after,
                        "the API server answers about the tokens of data planes again"
                    );
                }
            }
            Err(error) => {
                if let Some(lasting) = outage.fails() {
                    tracing::warn!(
                        error,
                        ?lasting,
                        "the API server cannot be asked about the tokens of data planes: new streams are refused"
                    );
                }
            }
        }
        drop(outage);
        answer.map_err(TokenError::Unreachable)
    }

    fn remember(&self, hash: Hash, verdict: Known) {
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED {
            let now = Instant::now();
            known.retain(|_, k| k.until > now);
        }
        if known.len() >= REMEMBERED {
            // Whichever: its stream asks again.
            let evicted = known.keys().next().copied();
            if let Some(evicted) = evicted {
                known.remove(&evicted);
                self.evictions.inc();
            }
        }
        known.insert(hash, verdict);
        self.entries
            .set(i64::try_from(known.len()).unwrap_or(i64::MAX));
    }
}

/// The token of a stream.
fn of(metadata: &MetadataMap) -> Result<&str, TokenError> {
    let value = metadata.get("authorization").ok_or(TokenError::Missing)?;
    let value = value.to_str().map_err(|_| TokenError::Malformed)?;
    let token = value.strip_prefix("Bearer ").ok_or(TokenError::Malformed)?;
    match token.is_empty() || token.len() > MAX_BYTES {
        true => Err(TokenError::Malformed),
        false => Ok(token),
    }
}

/// Whose a token is that was reviewed.
fn judged(status: &TokenReviewStatus) -> Result<Pod, TokenError> {
    let refused = |why: &str| Err(TokenError::Refused(why.to_owned()));
    if status.authenticated != Some(true) {
        return refused("it is not valid, or not for us");
    }
    // A server that knows nothing of audiences leaves them out.
    let audiences = status.audiences.iter().flatten();
    if !audiences.into_iter().any(|a| a == AUDIENCE) {
        return refused("it is not for us");
    }
    let user = status.user.as_ref();
    let account = user.and_then(|user| user.username.as_deref());
    let account = account.and_then(|name| name.strip_prefix("system:serviceaccount:"));
    let Some((namespace, account)) = account.and_then(|account| account.split_once(':')) else {
        return refused("it is not that of a service account");
    };
    let bound = |what: &str| user?.extra.as_ref()?.get(what)?.first().cloned();
    let (Some(name), Some(uid)) = (bound(POD_NAME), bound(POD_UID)) else {
        return refused("it is not bound to a Pod");
    };
    Ok(Pod {
        account: format!("{namespace}/{account}"),
        name,
        uid,
    })
}

/// Tokens before an API server that answers as tests say.
#[cfg(test)]
pub(crate) mod fake {
    use super::*;
    use k8s_openapi::api::authentication::v1::UserInfo;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// What the API server says of a good token of a Pod.
    pub(crate) fn token_of(account: &str, audience: &str, pod: &str) -> TokenReviewStatus {
        let bound = [
            (POD_NAME, pod.to_owned()),
            (POD_UID, format!("uid-of-{pod}")),
        ];
        let extra = bound.map(|(what, value)| (what.to_owned(), vec![value]));
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec![audience.to_owned()]),
            user: Some(UserInfo {
                username: Some(account.to_owned()),
                extra: Some(extra.into()),
                ..UserInfo::default()
            }),
            error: None,
        }
    }

    pub(crate) struct Fixture {
        pub(crate) tokens: Arc<Tokens>,
        pub(crate) answer: Arc<Mutex<Result<TokenReviewStatus, String>>>,
        asked: Arc<AtomicUsize>,
    }

    pub(crate) fn start(answer: Result<TokenReviewStatus, String>) -> Fixture {
        let asked = Arc::new(AtomicUsize::new(0));
        let answer = Arc::new(Mutex::new(answer));
        let (count, say) = (Arc::clone(&asked), Arc::clone(&answer));
        let review: Review = Box::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            let answer = say.lock().clone();
            Box::pin(async { answer })
        });
        let entries = IntGauge::new("entries", "entries").unwrap();
        let evictions = IntCounter::new("evictions", "evictions").unwrap();
        Fixture {
            tokens: Tokens::reviewing(review, entries, evictions),
            answer,
            asked,
        }
    }

    impl Fixture {
        pub(crate) fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::{Fixture, start, token_of};
    use super::*;

    const GROUP: &str = "shop/web-diolkos";

    fn status(user: &str, audience: &str) -> TokenReviewStatus {
        token_of(user, audience, "web-1")
    }

    fn metadata(value: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", value.parse().unwrap());
        metadata
    }

    impl Fixture {
        async fn check(&self, value: &str) -> Result<Pod, TokenError> {
            self.tokens.check(&metadata(value), GROUP).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_account_of_the_group_is_let_in_and_asked_about_once_a_minute() {
        let it = start(Ok(status(
            "system:serviceaccount:shop:web-diolkos",
            AUDIENCE,
        )));
        for _ in 0..3 {
            let pod = it.check("Bearer abc").await.unwrap();
            assert_eq!((&*pod.name, &*pod.uid), ("web-1", "uid-of-web-1"));
        }
        assert_eq!(it.asked(), 1);
        tokio::time::advance(GOOD).await;
        // A Pod that is gone: its token is not accepted any more.
        *it.answer.lock() = Ok(TokenReviewStatus::default());
        let refused = it.check("Bearer abc").await.unwrap_err();
        assert!(matches!(refused, TokenError::Refused(_)), "{refused}");
        assert_eq!(it.asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_else_is_refused() {
        let ours = "system:serviceaccount:shop:web-diolkos";
        for (user, audience) in [
            ("system:serviceaccount:shop:default", AUDIENCE),
            ("system:serviceaccount:other:web-diolkos", AUDIENCE),
            ("web-diolkos", AUDIENCE),
            (ours, "https://kubernetes.default.svc"),
        ] {
            let it = start(Ok(status(user, audience)));
            assert!(it.check("Bearer abc").await.is_err(), "{user} {audience}");
        }
        // One that was asked for by hand is no Pod's.
        for what in [POD_NAME, POD_UID] {
            let mut unbound = status(ours, AUDIENCE);
            let extra = unbound.user.as_mut().and_then(|user| user.extra.as_mut());
            extra.unwrap().remove(what);
            let refused = start(Ok(unbound)).check("Bearer abc").await.unwrap_err();
            assert!(refused.to_string().contains("bound to a Pod"), "{refused}");
        }
        let it = start(Ok(status(ours, AUDIENCE)));
        for value in ["abc", "Bearer ", "Basic abc"] {
            assert_eq!(it.check(value).await, Err(TokenError::Malformed));
        }
        let without = it.tokens.check(&MetadataMap::new(), GROUP).await;
        assert_eq!(without, Err(TokenError::Missing));
        assert_eq!(it.asked(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_api_server_is_away_a_word_counts_for_its_time() {
        let it = start(Ok(status(
            "system:serviceaccount:shop:web-diolkos",
            AUDIENCE,
        )));
        it.check("Bearer abc").await.unwrap();
        *it.answer.lock() = Err("no answer".to_owned());
        it.check("Bearer abc").await.unwrap();
        let refused = it.check("Bearer new").await.unwrap_err();
        assert!(matches!(refused, TokenError::Unreachable(_)), "{refused}");
        tokio::time::advance(GOOD).await;
        assert!(it.check("Bearer abc").await.is_err());
        // Nothing of the outage is remembered.
        *it.answer.lock() = Ok(status("system:serviceaccount:shop:web-diolkos", AUDIENCE));
        it.check("Bearer new").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_found_out_whether_the_api_server_answers() {
        let it = start(Err("no answer".to_owned()));
        let tokens = Arc::clone(&it.tokens);
        let answered = tokio::spawn(async move { tokens.answered().await });
        sleep(HEARD / 2).await;
        // One has heard it for all.
        assert!(!it.tokens.answers().await);
        assert_eq!(it.asked(), 1);
        sleep(LOOK_AGAIN * 10).await;
        assert!(!answered.is_finished());
        assert!((10..=22).contains(&it.asked()), "{}", it.asked());
        // That it accepts nobody's token is not expected of it.
        *it.answer.lock() = Ok(TokenReviewStatus::default());
        let began = Instant::now();
        answered.await.unwrap();
        assert!(began.elapsed() <= LOOK_AGAIN);
        let asked = it.asked();
        it.tokens.answered().await;
        assert_eq!(it.asked(), asked);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_has_a_bound() {
        let it = start(Ok(TokenReviewStatus::default()));
        for n in 0..REMEMBERED + 10 {
            assert!(it.check(&format!("Bearer {n}")).await.is_err());
        }
        assert_eq!(it.tokens.known.lock().len(), REMEMBERED);
        assert_eq!(it.tokens.evictions.get(), 10);
    }
}
