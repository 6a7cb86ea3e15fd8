//! What a CustomResourceDefinition of the Gateway API says of itself.

use std::collections::BTreeMap;

const RELEASE: &str = "gateway.networking.k8s.io/bundle-version";
const CHANNEL: &str = "gateway.networking.k8s.io/channel";
/// Longer than any release is called.
const LONGEST: usize = 64;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Such as `v1.6.3`.
    pub release: Box<str>,
    /// It is of the experimental channel, and has fields that the standard one lacks.
    pub experimental: bool,
}

impl Definition {
    /// By the annotations of the object; `None`: they do not name a release.
    pub fn of(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let release = annotations.get(RELEASE)?;
        let readable = release.len() <= LONGEST && release.is_ascii();
        readable.then(|| Self {
            release: release.as_str().into(),
            experimental: annotations
                .get(CHANNEL)
                .is_some_and(|c| c == "experimental"),
        })
    }

    /// Major and minor number of the release; `None`: it has no such.
    pub fn version(&self) -> Option<(u32, u32)> {
        let numbers = self.release.strip_prefix('v').unwrap_or(&self.release);
        let mut numbers = numbers.split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}
