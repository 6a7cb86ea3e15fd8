//! What a data plane has to understand to be given a resource, beyond what schema revision 1 has.
//!
//! Who reads protobuf passes over fields that it does not know. Mostly that is as it should be; but where a new field
//! restricts something (who is let in, what a backend has to prove), a data plane of an older build would serve without
//! the restriction, and acknowledge it. So such a feature has a name: data planes say in Hello which ones they have, each
//! resource that uses one says so on the wire, and whoever lacks one is not given that resource (`Store::needing`).

use crate::{Kind, PATCHES};
use bytes::Bytes;

/// A feature that older data planes must not pass over.
#[derive(Debug)]
pub struct Capability {
    /// As it stands in Hello.
    pub name: &'static str,
    /// Of the resources that may use it.
    pub kind: Kind,
    /// Whether a body of that kind uses it.
    pub uses: fn(&[u8]) -> bool,
}

macro_rules! capabilities {
    ($($name:literal, $type:ty: $uses:expr;)*) => {
        /// Those of this build.
        pub static CAPABILITIES: &[Capability] = &[$(Capability {
            name: $name,
            kind: <$type as $crate::Section>::KIND,
            uses: |body| $crate::decode::<$type>(body).is_ok_and(|item| $uses(&item)),
        },)*];
    };
}

// One line each, such as: "spiffe", model::Upstream: |upstream: &model::Upstream| upstream.tls.is_some();
// All that schema revision 1 has needs none.
capabilities! {}

/// What a live resource needs of data planes, which those of older builds may lack.
pub struct Needing {
    /// Names of capabilities; there is one at least.
    pub capabilities: Vec<&'static str>,
    /// Its last body that needed none of them.
    pub before: Option<Bytes>,
}

impl Needing {
    /// The first that a data plane lacks. `lacks`: all of those.
    pub fn unmet(&self, lacks: &[&'static str]) -> Option<&'static str> {
        let mut needed = self.capabilities.iter();
        needed.find(|name| lacks.contains(name)).copied()
    }
}

/// What a body needs of those, by their names.
pub fn needed<'a>(
    known: &'static [Capability],
    kind: Kind,
    body: &'a [u8],
) -> impl Iterator<Item = &'static str> + 'a {
    let used = known.iter().filter(move |c| c.kind == kind);
    used.filter(move |c| (c.uses)(body)).map(|c| c.name)
}

/// What a data plane of this build says in Hello.
pub fn offered() -> Vec<String> {
    let all = [PATCHES].into_iter();
    let all = all.chain(CAPABILITIES.iter().map(|c| c.name));
    all.map(str::to_owned).collect()
}
