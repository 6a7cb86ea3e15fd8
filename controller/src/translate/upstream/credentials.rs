//! Header fields with values from Secrets.

use super::super::lowering::Lowering;
use crate::report::Reason;
use model::headers::is_value;
use model::{CredentialHeader, Secret};
use std::collections::BTreeSet;

impl Lowering<'_> {
    /// `None`: not all can be had, and a request without its credentials must not leave.
    pub(super) fn credentials(
        &mut self,
        headers: &[crds::CredentialHeader],
    ) -> Option<Vec<CredentialHeader>> {
        let mut all = Vec::with_capacity(headers.len());
        let mut usable = true;
        let mut names = BTreeSet::new();
        for (i, header) in headers.iter().enumerate() {
            let at = format!("spec.auth.headers[{i}]");
            let name = self.header_name(&format!("{at}.name"), &header.name);
            if let Some(name) = &name
                && !names.insert(name.clone())
            {
                let message = format!("{name} is set by another element of the list");
                self.error(format!("{at}.name"), Reason::Invalid, message);
                usable = false;
            }
            let reference = &header.value_from.secret_key_ref;
            let at = format!("{at}.valueFrom.secretKeyRef");
            let value = self.secret_value(&at, reference).and_then(|value| {
                let prefix = header.prefix.as_deref().unwrap_or_default();
                let field = field_value(prefix, value);
                if field.is_none() {
                    let message = format!(
                        "what stands under the key {:?} is empty or holds what no header value may hold",
                        reference.key.as_str()
                    );
                    self.error(&at, Reason::InvalidValue, message);
                }
                field
            });
            match (name, value) {
                (Some(name), Some(value)) => all.push(CredentialHeader { name, value }),
                _ => usable = false,
            }
        }
        usable.then_some(all)
    }
}

/// A file that became a Secret ends with a line break, which belongs to the file and not to the value.
pub(in crate::translate) fn field_value(prefix: &str, value: &Secret) -> Option<Secret> {
    let value = value.reveal();
    let end = value.iter().rposition(|b| !matches!(b, b'\r' | b'\n'))?;
    let value = value.get(..=end)?;
    let mut field = Vec::with_capacity(prefix.len() + value.len());
    field.extend_from_slice(prefix.as_bytes());
    field.extend_from_slice(value);
    // Wiped when dropped, also where it is refused.
    let field = Secret::new(field);
    is_value(field.reveal()).then_some(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_fields() {
        for (prefix, value, field) in [
            ("Bearer ", "abc", Some("Bearer abc")),
            ("", "abc\r\n", Some("abc")),
            ("", "\n", None),
            ("", "", None),
            ("", "a\nb: c", None),
            ("", " a", None),
        ] {
            let found = field_value(prefix, &Secret::new(value));
            let found = found.as_ref().map(Secret::reveal);
            assert_eq!(found, field.map(str::as_bytes), "{value:?}");
        }
    }
}
