//! How messages with secrets in them print: without them.

use crate::pb;
use std::fmt;

const REDACTED: &str = "[redacted]";

impl fmt::Debug for pb::Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("origin", &self.origin)
            .field("chain", &self.chain)
            .field("key", &REDACTED)
            .finish()
    }
}

impl fmt::Debug for pb::CredentialHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialHeader")
            .field("name", &self.name)
            .field("value", &REDACTED)
            .finish()
    }
}

/// The body is the encoding of any kind.
impl fmt::Debug for pb::Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource")
            .field("kind", &self.kind)
            .field("key", &self.key)
            .field("hash", &self.hash)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .field("requires", &self.requires)
            .finish()
    }
}

/// The body is the encoding of any kind.
impl fmt::Debug for pb::Quarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.body.as_ref().map(bytes::Bytes::len);
        f.debug_struct("Quarantined")
            .field("kind", &self.kind)
            .field("key", &self.key)
            .field("hash", &self.hash)
            .field("reason", &self.reason)
            .field("body", &format_args!("{bytes:?} bytes"))
            .field("capability", &self.capability)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Certificate, CredentialHeader, EndpointSource, ObjectRef, Secret, Upstream};

    #[test]
    fn secrets_on_the_wire_do_not_print() {
        let origin = ObjectRef::new("Secret", "a", "b");
        let certificate = Certificate {
            origin: origin.clone(),
            chain: "chain".to_owned(),
            key: Secret::new("marker"),
        };
        let mut upstream = Upstream::new(origin, EndpointSource::Static(Vec::new()));
        upstream.credentials = vec![CredentialHeader {
            name: "x-key".to_owned(),
            value: Secret::new("marker"),
        }];
        let resource = pb::Resource {
            body: crate::encode(&certificate).unwrap().into(),
            ..pb::Resource::default()
        };
        let quarantined = pb::Quarantined {
            body: Some(resource.body.clone()),
            ..pb::Quarantined::default()
        };
        use crate::sections::Section;
        for text in [
            format!("{quarantined:?}"),
            format!("{:?}", certificate.to_wire()),
            format!("{:?}", upstream.to_wire()),
            format!("{resource:?}"),
        ] {
            // Bytes would print as numbers.
            let numbers = format!("{:?}", b"marker");
            let numbers = numbers.trim_matches(['[', ']']);
            assert!(
                !text.contains("marker") && !text.contains(numbers),
                "{text}"
            );
        }
    }
}
