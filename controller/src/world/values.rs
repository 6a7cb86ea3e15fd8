//! Values of Secrets and ConfigMaps: of those that something refers to, and of no others.

use super::pem::{self, Pair};
use k8s_openapi::api::core::v1 as core;
use model::Secret;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// What is known of the values of a Secret or ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    /// There is such an object; its values have not been read at this resourceVersion.
    Unread {
        version: String,
    },
    /// They could not be read. The text is fit for a condition.
    Unreadable(String),
    Read(Arc<Data>),
}

/// Values by key. They print as `[redacted]` and are wiped when dropped.
#[derive(Default)]
pub struct Data {
    values: BTreeMap<String, Secret>,
    // What they come to is asked often, and parsed once a version.
    pair: OnceLock<Result<Arc<Pair>, String>>,
    authorities: OnceLock<Result<Arc<str>, String>>,
}

impl Data {
    pub fn get(&self, key: &str) -> Option<&Secret> {
        self.values.get(key)
    }

    /// The certificate in `tls.crt` with its key in `tls.key`.
    ///
    /// # Errors
    /// What is wrong with them, without a byte of the values.
    pub fn pair(&self) -> Result<&Arc<Pair>, &str> {
        let pair = self
            .pair
            .get_or_init(|| Pair::read(&self.values).map(Arc::new));
        pair.as_ref().map_err(String::as_str)
    }

    /// The authorities in `ca.crt`, as PEM and nothing beside it.
    ///
    /// # Errors
    /// What is wrong with them, without a byte of the values.
    pub fn authorities(&self) -> Result<&Arc<str>, &str> {
        let authorities = self
            .authorities
            .get_or_init(|| pem::authorities(&self.values).map(Arc::from));
        authorities.as_ref().map_err(String::as_str)
    }
}

impl FromIterator<(String, Secret)> for Data {
    fn from_iter<T: IntoIterator<Item = (String, Secret)>>(values: T) -> Self {
        Self {
            values: values.into_iter().collect(),
            ..Self::default()
        }
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values
    }
}

impl Eq for Data {}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.values.fmt(f)
    }
}

impl From<core::Secret> for Values {
    fn from(secret: core::Secret) -> Self {
        let data = secret.data.into_iter().flatten();
        let data = data.map(|(key, value)| (key, Secret::new(value.0)));
        // As the API server does: what stands in both is taken from stringData.
        let text = secret.string_data.into_iter().flatten();
        let text = text.map(|(key, value)| (key, Secret::new(value)));
        Self::Read(Arc::new(data.chain(text).collect()))
    }
}

impl From<core::ConfigMap> for Values {
    fn from(map: core::ConfigMap) -> Self {
        let text = map.data.into_iter().flatten();
        let text = text.map(|(key, value)| (key, Secret::new(value)));
        let data = map.binary_data.into_iter().flatten();
        let data = data.map(|(key, value)| (key, Secret::new(value.0)));
        Self::Read(Arc::new(text.chain(data).collect()))
    }
}

/// Why a manifest is no Secret or ConfigMap: the field and what must stand there. The errors of serde are not used
/// here, since they quote what they cannot read.
pub(super) fn fault(manifest: &Value) -> Option<(String, &'static str)> {
    for field in ["data", "stringData", "binaryData"] {
        match manifest.get(field) {
            None | Some(Value::Null) => {}
            Some(Value::Object(values)) => {
                let wrong = values.iter().find(|(_, value)| !value.is_string());
                if let Some((key, _)) = wrong {
                    return Some((format!("{field}.{key}"), "must be text"));
                }
            }
            Some(_) => return Some((field.to_owned(), "must be a map of keys to values")),
        }
    }
    None
}
