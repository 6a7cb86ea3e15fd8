//! Strings with a form: host names, header names, patterns and so on.
//!
//! On the wire each is a plain string. The types carry the form into the schema, so that the API server
//! and the directory loader refuse what does not fit; in Rust they read like a `&str`. Deserialising
//! checks nothing: an object that was stored by a newer version must stay readable.

macro_rules! text {
    ($($(#[doc = $doc:literal])* $name:ident { $($schema:tt)* })*) => {
        /// What each form is, by the pattern that stands for it in the schemas.
        pub(crate) fn forms() -> Vec<(String, &'static str)> {
            let schemas = [
                $((serde_json::json!({ $($schema)* }), concat!($($doc),*)),)*
                (serde_json::json!({ "pattern": crate::Duration::PATTERN }), "A duration such as 300ms or 1m30s, with the units h, m, s and ms."),
                (serde_json::json!({ "pattern": crate::Quantity::PATTERN }), "A size such as 64Ki or 10Mi."),
                (serde_json::json!({ "pattern": crate::Timestamp::PATTERN }), "A point in time such as 2027-01-01T00:00:00Z or 2027-01-01."),
            ];
            schemas
                .into_iter()
                .filter_map(|(schema, words)| Some((schema.get("pattern")?.as_str()?.to_owned(), words.trim())))
                .collect()
        }
        $(
        $(#[doc = $doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The text as written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::ops::Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", $($schema)* })
            }
        }
        )*
    };
}

text! {
    /// The name of a Kubernetes object: lower-case letters, digits, `-` and `.`, at most 253.
    ObjectName { "minLength": 1, "maxLength": 253, "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$" }
    /// A DNS label: lower-case letters, digits and `-`, at most 63. Names of namespaces, listeners, rules.
    Label { "minLength": 1, "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" }
    /// The kind of an object, such as `Service`.
    KindName { "minLength": 1, "maxLength": 63, "pattern": "^[A-Z][A-Za-z0-9]*$" }
    /// An API group, such as `diolkos.io`; empty for the core group.
    GroupName { "maxLength": 253, "pattern": "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$" }
    /// A key inside a Secret or ConfigMap.
    DataKey { "minLength": 1, "maxLength": 253, "pattern": "^[-._a-zA-Z0-9]+$" }
    /// A host name, lower case, without port. The first label may be `*`.
    HostPattern {
        "minLength": 1, "maxLength": 253,
        "pattern": r"^(\*\.)?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$"
    }
    /// A host name, lower case, without wildcard and port.
    Hostname {
        "minLength": 1, "maxLength": 253,
        "pattern": r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$"
    }
    /// An IPv4 or IPv6 address or a host name, without port.
    Address { "minLength": 1, "maxLength": 253, "pattern": r"^([a-zA-Z0-9_]([-a-zA-Z0-9_.]*[a-zA-Z0-9.])?|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)$" }
    /// A network such as `10.0.0.0/8` or `fd00::/8`, or a single address.
    Cidr {
        "minLength": 2, "maxLength": 49,
        "x-kubernetes-validations": [{
            "rule": "isCIDR(self) || isIP(self)",
            "message": "must be a network such as 10.0.0.0/8 or fd00::/8, or an IP address"
        }]
    }
    /// The name of an HTTP header field or of a cookie: a token of RFC 9110 section 5.6.2, in any case.
    HeaderName { "minLength": 1, "maxLength": 256, "pattern": "^[A-Za-z0-9!#$%&'*+.^_|~`-]+$" }
    /// The value of an HTTP header field: no control characters, no blank at either end.
    HeaderValue { "maxLength": 4096, "pattern": r"^([^\x00-\x20\x7f]([^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?$" }
    /// The name of an HTTP header field or of a cookie: a token of RFC 9110 section 5.6.2, in any case.
    CookieName { "minLength": 1, "maxLength": 256, "pattern": "^[A-Za-z0-9!#$%&'*+.^_|~`-]+$" }
    /// A request method: a token, upper case by custom.
    Method { "minLength": 1, "maxLength": 32, "pattern": "^[A-Z][A-Z-]*$" }
    /// A path that begins with `/`, without query and fragment.
    Path { "minLength": 1, "maxLength": 1024, "pattern": r"^/[^?#\x00-\x20\x7f]*$" }
    /// A regular expression in the syntax of the Rust `regex` crate (no look-around, no back references).
    Regex { "minLength": 1, "maxLength": 1024 }
    /// An expression in CEL.
    Cel { "minLength": 1, "maxLength": 2048 }
    /// An absolute `http` or `https` URL.
    Url { "minLength": 8, "maxLength": 2048, "pattern": r"^https?://[^\s/?#@]+([/?#]\S*)?$" }
    /// A media type such as `text/html; charset=utf-8`.
    MediaType { "minLength": 3, "maxLength": 256, "pattern": r"^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+*-]+(\s*;\s*[A-Za-z0-9!#$&^_.+-]+=[^\x00-\x1f\x7f]+)*$" }
    /// A status code such as `404` or a range such as `200-299`.
    StatusRange { "minLength": 3, "maxLength": 7, "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$" }
    /// An amount in decimal notation, such as `0.15`; never negative.
    Decimal { "minLength": 1, "maxLength": 32, "pattern": r"^[0-9]{1,18}(\.[0-9]{1,12})?$" }
    /// A currency by its code of ISO 4217, such as `USD`.
    Currency { "minLength": 3, "maxLength": 3, "pattern": "^[A-Z]{3}$" }
    /// A time zone by its name in the IANA database, such as `Europe/Athens`.
    TimeZone { "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$" }
    /// The name of a model; `*` at an end or alone stands for anything.
    ModelPattern { "minLength": 1, "maxLength": 256, "pattern": r"^[^\x00-\x20\x7f]+$" }
    /// A short word or phrase without control characters.
    Short { "minLength": 1, "maxLength": 256, "pattern": r"^[^\x00-\x1f\x7f]+$" }
    /// A text on one line, without control characters.
    Line { "maxLength": 1024, "pattern": r"^[^\x00-\x1f\x7f]*$" }
    /// A host name in which `${name}` stands for a group of hostnameRegex.
    HostTemplate { "minLength": 1, "maxLength": 253, "pattern": r"^([a-z0-9.-]|\$\{[A-Za-z_][A-Za-z0-9_]*\})+$" }
    /// A document of at most 65536 characters, such as the body of an answer.
    Document { "maxLength": 65536 }
    /// What is repeated: a condition by name, a status or a range of status codes.
    RetryOn {
        "minLength": 3, "maxLength": 32,
        "pattern": "^(ConnectFailure|Reset|Timeout|ReusedConnection|NonIdempotent|[1-5][0-9]{2}(-[1-5][0-9]{2})?)$"
    }
    /// What leads to the next target of a failover: a condition by name, a status or a class of status codes.
    FailoverOn {
        "minLength": 3, "maxLength": 32,
        "pattern": "^(ConnectFailure|RateLimited|Overloaded|Timeout|[45][0-9]{2}|[45]xx)$"
    }
    /// The text before the random part of a key.
    KeyPrefix { "minLength": 1, "maxLength": 32, "pattern": "^[A-Za-z0-9_-]+$" }
    /// The URL of a database. A password has no place in it: specs are readable by many.
    StoreUrl {
        "minLength": 1, "maxLength": 2048,
        "pattern": r"^(rediss?|postgres(ql)?|mysql|sqlite):(//)?([^\s:@/]+@)?[^\s@]*$"
    }
}
