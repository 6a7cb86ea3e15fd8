//! Kubernetes objects as a case writes them: text, with the few fields that the runner needs read out.

use std::fmt;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Kinds that a case may use and that belong to no namespace.
const CLUSTER_SCOPED: [&str; 4] = ["Tenant", "Namespace", "GatewayClass", "IngressClass"];

/// `Kind/namespace/name`, or `Kind/name` of a cluster-scoped object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Kind, as written.
    pub kind: String,
    /// Namespace, empty for cluster-scoped kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// Read the form that `Display` writes.
    pub fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let (kind, namespace, name) = match parts[..] {
            [kind, name] => (kind, "", name),
            [kind, namespace, name] => (kind, namespace, name),
            _ => bail!("{text:?} is not Kind/namespace/name"),
        };
        Ok(Self {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        })
    }

    /// Whether the kind is one of ours, with a status that the gateway writes.
    pub fn is_ours(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "Route"
                | "Upstream"
                | "Plugin"
                | "Tenant"
                | "Consumer"
                | "GatewayConfig"
                | "ModelCatalog"
        )
    }

    /// Whether the kind is one of the Gateway API that the gateway serves, with entries of ours in its status.
    pub fn is_gateway_api(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "GatewayClass"
                | "Gateway"
                | "ListenerSet"
                | "HTTPRoute"
                | "GRPCRoute"
                | "TLSRoute"
                | "TCPRoute"
                | "UDPRoute"
                | "BackendTLSPolicy"
        )
    }

    /// The argument that names the object to kubectl; the group tells our kinds from others of that name.
    pub fn kubectl(&self) -> String {
        let kind = self.kind.to_ascii_lowercase();
        if self.is_ours() {
            format!("{kind}.diolkos.io/{}", self.name)
        } else {
            format!("{kind}/{}", self.name)
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            namespace,
            name,
        } = self;
        match namespace.as_str() {
            "" => write!(f, "{kind}/{name}"),
            namespace => write!(f, "{kind}/{namespace}/{name}"),
        }
    }
}

/// One object, with its text as the case wrote it.
#[derive(Clone, Debug)]
pub struct Object {
    /// What it is called.
    pub key: Key,
    /// YAML or JSON text of this one document.
    pub text: String,
}

impl Object {
    /// An object that the runner made.
    pub fn from_value(value: Value) -> Result<Self> {
        Ok(Self {
            key: key_of(&value)?,
            text: value.to_string(),
        })
    }

    /// The documents of a manifest.
    pub fn parse_all(text: &str) -> Result<Vec<Self>> {
        let mut objects = Vec::new();
        for document in split(text) {
            let value: Value = serde_saphyr::from_str(&document).context("YAML")?;
            if value.is_null() {
                continue;
            }
            objects.push(Self {
                key: key_of(&value)?,
                text: document,
            });
        }
        Ok(objects)
    }
}

fn key_of(value: &Value) -> Result<Key> {
    let text = |pointer: &str| {
        value
            .pointer(pointer)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let kind = text("/kind").context("object without kind")?;
    let name = text("/metadata/name").context("object without metadata.name")?;
    let namespace = match text("/metadata/namespace") {
        Some(namespace) => namespace,
        None if CLUSTER_SCOPED.contains(&kind.as_str()) => String::new(),
        None => bail!("{kind} {name}: a case writes the namespace of every object"),
    };
    Ok(Key {
        kind,
        namespace,
        name,
    })
}

/// Split at `---` lines, leaving out documents of comments and blank lines alone.
fn split(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line.trim_end() == "---" {
            documents.push(String::new());
        } else if let Some(last) = documents.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    documents.retain(|d| {
        d.lines()
            .any(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#'))
    });
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_keep_their_text() {
        let text = "# first\n---\nkind: Route\nmetadata: {name: a, namespace: ns}\n---\n# nothing\n---\nkind: Tenant\nmetadata:\n  name: t\n";
        let objects = Object::parse_all(text).unwrap();
        let keys: Vec<String> = objects.iter().map(|o| o.key.to_string()).collect();
        assert_eq!(keys, ["Route/ns/a", "Tenant/t"]);
        assert_eq!(
            objects[0].text,
            "kind: Route\nmetadata: {name: a, namespace: ns}\n"
        );
        assert_eq!(Key::parse("Route/ns/a").unwrap(), objects[0].key);
        assert!(Object::parse_all("kind: Route\nmetadata: {name: a}\n").is_err());
    }
}
