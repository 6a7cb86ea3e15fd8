//! How an endpoint is chosen, and how it is found out which ones work.

/// How the next endpoint is chosen (features.md F32-F36).
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Balance {
    pub policy: BalancePolicy,
    /// What is hashed; only and always with [`BalancePolicy::ConsistentHash`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<ConsistentHash>,
    /// How long a new endpoint takes to reach its full share; 0: at once.
    pub slow_start_ms: u32,
    /// Endpoints of the data plane's own zone come first.
    pub prefer_zone: bool,
}

impl From<BalancePolicy> for Balance {
    fn from(policy: BalancePolicy) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub enum BalancePolicy {
    /// In turn; weights are ignored.
    #[default]
    RoundRobin,
    /// In turn by smooth weights.
    Weighted,
    /// The one with the fewest requests under way in proportion to its weight.
    LeastRequest,
    Random,
    /// The less busy of two at random.
    P2C,
    ConsistentHash,
}

/// Requests with the same value go to the same endpoint.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsistentHash {
    pub source: HashSource,
    pub table: HashTable,
    /// An endpoint takes at most this percentage of the average load; 0: no bound.
    pub bounded_load_percent: u32,
}

/// What of a request is hashed. Where it is absent the request goes to any endpoint.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HashSource {
    Path,
    ClientIp,
    /// Lower case.
    Header(String),
    Cookie(String),
    Query(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum HashTable {
    /// Fewest moves when endpoints change.
    Ring,
    /// Evenly spread.
    Maglev,
}

/// How it is found out which endpoints work (features.md F51, F57-F60).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<ActiveHealth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passive: Option<PassiveHealth>,
    /// Below this share of healthy endpoints all are used (panic mode).
    pub min_healthy_percent: u8,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            active: None,
            passive: None,
            min_healthy_percent: 50,
        }
    }
}

/// Endpoints are asked from time to time.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActiveHealth {
    pub check: Check,
    pub interval_ms: u32,
    pub timeout_ms: u32,
    /// Failures in a row that make an endpoint unhealthy.
    pub unhealthy_threshold: u32,
    /// Successes in a row that make it healthy again.
    pub healthy_threshold: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Check {
    Http {
        path: String,
        /// Inclusive ranges of status codes that mean healthy.
        expect: Vec<(u16, u16)>,
        /// `None`: the endpoint's address.
        host: Option<String>,
    },
    Tcp,
    Grpc {
        /// Empty: the server as a whole.
        service: String,
    },
}

/// Endpoints that fail requests are left alone for a while.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassiveHealth {
    pub consecutive_errors: u32,
    /// 0: the share does not matter.
    pub error_rate_percent: u32,
    pub min_requests: u32,
    pub window_ms: u32,
    /// The first ejection; each further one is longer by as much.
    pub ejection_ms: u32,
    /// One endpoint may always be ejected.
    pub max_eject_percent: u32,
}

/// Bounds on what is under way to an upstream, in one data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreaker {
    pub max_connections: u32,
    pub max_requests: u32,
    pub max_pending: u32,
}

/// How many requests may be under way at once, and how many may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Concurrency {
    pub max: u32,
    /// Requests that may wait; 0: refused at once.
    pub queue_depth: u32,
    pub queue_timeout_ms: u32,
}
