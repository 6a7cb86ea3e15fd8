//! Which hosts of an Ingress have TLS.

use k8s_openapi::api::networking::v1::IngressTLS;

/// Whether TLS is asked for a host, which may be a wildcard. A block without hosts is for all that the Ingress names.
pub(super) fn covers(tls: &[IngressTLS], host: &str) -> bool {
    // A certificate for every host there is nobody has.
    !host.is_empty() && tls.iter().any(|block| block_covers(block, host))
}

fn block_covers(block: &IngressTLS, host: &str) -> bool {
    let mut hosts = block.hosts.iter().flatten().peekable();
    hosts.peek().is_none() || hosts.any(|name| name_covers(name, host))
}

/// A wildcard stands for one label.
fn name_covers(name: &str, host: &str) -> bool {
    let (name, host) = (name.to_ascii_lowercase(), host.to_ascii_lowercase());
    let rest = name.strip_prefix("*.");
    let parent = host.split_once('.').map(|(_, parent)| parent);
    name == host || rest.is_some() && rest == parent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_tls() {
        let block = |hosts: &[&str]| IngressTLS {
            hosts: Some(hosts.iter().map(ToString::to_string).collect()),
            secret_name: None,
        };
        let some = [block(&["a.test", "*.B.test"])];
        for (host, covered) in [
            ("a.test", true),
            ("A.test", true),
            ("x.b.test", true),
            ("*.b.test", true),
            ("x.y.b.test", false),
            ("b.test", false),
            ("c.test", false),
            ("", false),
        ] {
            assert_eq!(covers(&some, host), covered, "{host}");
        }
        assert!(covers(&[block(&[])], "c.test") && !covers(&[], "c.test"));
    }
}
