//! Every request plugin, one file each, and the chain that runs them.
//!
//! A plugin reads an immutable [`Exchange`] and writes to [`Edits`]; the [`Chain`] applies them between groups. It
//! declares by [`Needs`] which stages it takes part in and how it wants bodies. Neither sockets nor Kubernetes are
//! known here, so that a plugin's test is a function call.
//!
//! A new plugin is one file and one line in [`plugins!`] below: the line gives the type its name in YAML, its block in
//! the CRD, its place in the reference and its compiler.

mod accept_encoding;
mod chain;
mod compression;
mod content_validation;
mod cors;
mod decode;
mod edits;
mod encode;
mod exchange;
mod filters;
mod ip_access;
mod meter;
mod mock;
mod ping;
mod plugin;
mod redirect;
mod referer_restriction;
mod request_id;
mod request_validation;
mod response_headers;
mod schema;
mod ua_restriction;

pub use accept_encoding::AcceptEncoding;
pub use chain::{Chain, ChainEntry, ChainError, Outcome, Reader};
pub use compression::Compression;
pub use content_validation::ContentValidation;
pub use cors::CORS;
pub use edits::Edits;
pub use encode::open_encoders;
pub use exchange::{Exchange, RequestView, ResponseView};
pub use filters::{Filters, Passing};
pub use ip_access::IPAccess;
pub use meter::Meter;
pub use mock::Mock;
pub use ping::Ping;
pub use plugin::{
    BodyFilter, BodyMode, Compile, ErrorCode, Failure, Flow, InvalidSettings, Later, LocalReply,
    Needs, Plugin, Side, Stages, Verdict,
};
pub use redirect::Redirect;
pub use referer_restriction::RefererRestriction;
pub use request_id::RequestID;
pub use request_validation::RequestValidation;
pub use response_headers::ResponseHeaders;
pub use ua_restriction::UARestriction;

use std::sync::Arc;

/// Lists the plugin types: name in YAML, settings struct, name of the settings block.
macro_rules! plugins {
    ($($(#[$why:meta])* $name:ident, $block:literal;)*) => {
        /// Type names as `spec.type` takes them, in the order of the reference.
        pub const TYPES: &[&str] = &[$(stringify!($name)),*];

        /// Name of the settings block of a type, such as `requestValidation`.
        pub fn block_of(kind: &str) -> Option<&'static str> {
            match kind {
                $(stringify!($name) => Some($block),)*
                _ => None,
            }
        }

        /// Turns the settings block (JSON) of a type into the plugin that runs.
        ///
        /// The controller calls it for the object's condition and the data plane for use: one function, one verdict.
        ///
        /// # Errors
        /// [`InvalidSettings`] names the field and what is allowed.
        pub fn compile(kind: &str, settings: &str) -> Result<Arc<dyn Plugin>, InvalidSettings> {
            match kind {
                $(stringify!($name) => plugin::from_json::<$name>(settings),)*
                _ => Err(InvalidSettings::new("type", format!("unknown plugin type {kind}; known are {}", TYPES.join(", ")))),
            }
        }
    };
}

plugins! {
    /// By the address, before anything that a client may write is read.
    IPAccess, "ipAccess";
    UARestriction, "uaRestriction";
    RefererRestriction, "refererRestriction";
    /// Answers preflight requests, which carry no credentials.
    CORS, "cors";
    RequestID, "requestID";
    /// Refuses before any work is done.
    RequestValidation, "requestValidation";
    /// Judges bodies, so it comes after the checks that need none.
    ContentValidation, "contentValidation";
    /// These three answer instead of an upstream.
    Redirect, "redirect";
    Ping, "ping";
    Mock, "mock";
    /// Says what upstreams may send; what clients accept is known before.
    AcceptEncoding, "acceptEncoding";
    /// Last but one: it edits what goes out.
    ResponseHeaders, "responseHeaders";
    /// Last: bodies are compressed as they leave.
    Compression, "compression";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_without_duplicates_and_every_type_compiles_from_its_smallest_settings() {
        let mut names = TYPES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TYPES.len());
        for kind in TYPES {
            let block = block_of(kind).unwrap();
            assert!(block.chars().next().unwrap().is_ascii_lowercase());
            // A redirect has to lead somewhere.
            let smallest = match *kind {
                "Redirect" => r#"{"scheme": "https"}"#,
                _ => "{}",
            };
            assert!(compile(kind, smallest).is_ok(), "{kind}");
        }
        assert!(
            compile("Nope", "{}")
                .err()
                .unwrap()
                .to_string()
                .contains("RequestValidation")
        );
    }
}
