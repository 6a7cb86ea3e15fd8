//! What is not built.

use super::value::boolean;
use super::{Annotation, Complaint, Effect};

const OF_AUTH: &str = "it belongs to auth-type and auth-url, which are not built";
const OF_CLIENTS: &str = "it belongs to auth-tls-secret, which is not built";
const OF_LIMITS: &str = "it belongs to limits, which are not built";
const NOT_BUILT: &str = "is not built yet";
const OF_LISTENERS: &str = "it is a setting of the listener (GatewayConfig, spec.listeners[].tls)";
const SNIPPET: &str = "pieces of nginx's configuration are never executed";

macro_rules! rows {
    ($($effect:ident($why:expr): $($name:literal),+;)*) => {
        &[$($(Annotation { name: $name, effect: Effect::$effect($why) },)+)*]
    };
}

pub(super) const LIST: &[Annotation] = rows! {
    Closes(NOT_BUILT): "auth-type", "auth-url", "auth-tls-secret", "limit-rps", "limit-rpm", "limit-connections", "limit-rate",
        "global-rate-limit", "enable-modsecurity", "ssl-passthrough";
    Ignored(OF_AUTH): "auth-secret", "auth-secret-type", "auth-realm", "auth-method", "auth-signin",
        "auth-signin-redirect-param", "auth-response-headers", "auth-request-redirect", "auth-proxy-set-headers",
        "auth-always-set-cookie", "auth-cache-key", "auth-cache-duration", "auth-keepalive", "auth-keepalive-requests",
        "auth-keepalive-share-vars", "auth-keepalive-timeout", "auth-snippet", "satisfy";
    Ignored(OF_CLIENTS): "auth-tls-verify-client", "auth-tls-verify-depth", "auth-tls-match-cn", "auth-tls-error-page",
        "auth-tls-pass-certificate-to-upstream";
    Ignored(OF_LIMITS): "limit-burst-multiplier", "limit-whitelist", "limit-allowlist", "limit-rate-after",
        "global-rate-limit-window", "global-rate-limit-key", "global-rate-limit-ignored-cidrs";
    Ignored("it belongs to enable-modsecurity, which is not built"): "enable-owasp-core-rules", "modsecurity-snippet",
        "modsecurity-transaction-id";
    Ignored(NOT_BUILT): "custom-headers", "custom-http-errors", "disable-proxy-intercept-errors", "connection-proxy-header",
        "proxy-cookie-domain", "proxy-cookie-path";
    Ignored("Location and Refresh of answers are passed on as they are"): "proxy-redirect-from", "proxy-redirect-to";
    Ignored(OF_LISTENERS): "ssl-ciphers", "ssl-prefer-server-ciphers";
    Ignored("there is one access log for all (GatewayConfig, spec.accessLog)"): "enable-access-log", "enable-rewrite-log";
    Ignored("tracing is a setting of all (GatewayConfig, spec.tracing)"): "enable-opentelemetry",
        "opentelemetry-trust-incoming-span", "opentelemetry-operation-name", "enable-opentracing",
        "opentracing-trust-incoming-span";
    Ignored("browsers have given server push up"): "http2-push-preload";
    Ignored(SNIPPET): "stream-snippet";
};

pub(super) const READ: &[Annotation] = &[
    Annotation {
        name: "enable-global-auth",
        effect: Effect::Exact(|text, _| boolean(text).map(drop)),
    },
    Annotation {
        name: "configuration-snippet",
        effect: Effect::Refused(SNIPPET_CLOSES, |text, _| snippet(text)),
    },
    Annotation {
        name: "server-snippet",
        effect: Effect::Refused(SNIPPET_CLOSES, |text, _| snippet(text)),
    },
];

const SNIPPET_CLOSES: &str =
    "never executed, always reported; where it says who is let in, the paths answer 500";

/// Words of nginx's configuration that say who is let in, or answer in the place of the backend.
const GUARDS: &[&str] = &["deny", "allow", "return", "satisfy", "internal"];

/// How more of them begin, such as `auth_basic` and `auth_request`, `access_by_lua_block` and `access_by_lua_file`.
const FAMILIES: &[&str] = &[
    "auth_",
    "limit_",
    "secure_link",
    "access_by_lua",
    "rewrite_by_lua",
    "ssl_verify_client",
    "modsecurity",
];

fn snippet(text: &str) -> Result<(), Complaint> {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, ';' | '{' | '}'));
    let guard = words.into_iter().find(|word| {
        GUARDS.contains(word) || FAMILIES.iter().any(|family| word.starts_with(family))
    });
    Err(match guard {
        Some(word) => Complaint::Closes(format!("{SNIPPET}, and this one has {word:?} in it")),
        None => Complaint::NotSupported(SNIPPET.to_owned()),
    })
}
