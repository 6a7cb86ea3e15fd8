//! Values that several kinds share: checked once more than by the schema, because the world may hold anything.

use super::lowering::Lowering;
use crate::report::{Field, Reason};
use ipnet::IpNet;
use model::headers::{Known, is_token, is_value};
use model::{HeaderEdits, HostPattern};
use std::net::IpAddr;

/// Milliseconds of a timeout that `0s` switches off: about 49 days.
pub(super) const NEVER_MS: u32 = u32::MAX;

/// The message of a condition for what [`model::pattern`] refuses.
pub(super) fn expression<T>(pattern: &str, compiled: Result<T, regex::Error>) -> Result<T, String> {
    compiled.map_err(|e| {
        // The error of the parser draws the pattern over several lines; conditions want one.
        let text = e.to_string();
        let last = text.lines().last().unwrap_or_default();
        let last = last.strip_prefix("error: ").unwrap_or(last);
        format!("{pattern:?} is no regular expression: {last}")
    })
}

/// A host that may stand in a `Host` header: a name or an IP address, with a port if need be.
pub(super) fn authority(text: &str) -> Result<(), String> {
    let invalid = || format!("{text:?} is not a host name, with a port if need be");
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|p| p.parse::<u16>().is_err()) {
        return Err(invalid());
    }
    if let Some(v6) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return v6
            .parse::<std::net::Ipv6Addr>()
            .map(drop)
            .map_err(|_| invalid());
    }
    match HostPattern::parse(host) {
        Ok(HostPattern::Exact(_)) => Ok(()),
        _ => Err(invalid()),
    }
}

/// A network, or the network of one address. What embeds IPv4 in IPv6 is the IPv4 network that clients are compared
/// with; bits behind the prefix mean nothing.
fn network(text: &str) -> Result<IpNet, String> {
    let address = |_| text.parse::<IpAddr>().map(IpNet::from);
    let network = text.parse::<IpNet>().or_else(address).map_err(|_| {
        format!("{text:?} is neither a network such as 10.0.0.0/8 nor an IP address")
    })?;
    let mapped = match network {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => v6
            .addr()
            .to_ipv4_mapped()
            .zip(v6.prefix_len().checked_sub(96)),
        _ => None,
    };
    let v4 = mapped.and_then(|(address, len)| IpNet::new(address.into(), len).ok());
    Ok(v4.unwrap_or(network).trunc())
}

impl Lowering<'_> {
    /// Whole milliseconds, rounded up; what does not fit 32 bits is as good as for ever.
    pub(super) fn millis(&mut self, field: Field<'_>, duration: &crds::Duration) -> Option<u32> {
        let duration = self.valid(field, duration.parse())?;
        let millis = duration.as_micros().div_ceil(1000);
        Some(u32::try_from(millis).unwrap_or(NEVER_MS))
    }

    /// The same for a timeout without a value that means "off" on the wire.
    pub(super) fn millis_or_never(
        &mut self,
        field: Field<'_>,
        duration: &crds::Duration,
    ) -> Option<u32> {
        let millis = self.millis(field, duration)?;
        Some(if millis == 0 { NEVER_MS } else { millis })
    }

    /// The same for a time that must not be nothing.
    pub(super) fn positive_millis(
        &mut self,
        field: Field<'_>,
        duration: &crds::Duration,
    ) -> Option<u32> {
        let millis = self.millis(field, duration)?;
        if millis == 0 {
            self.error(field, Reason::Invalid, "must be more than 0s");
            return None;
        }
        Some(millis)
    }

    /// A number between bounds, both included.
    pub(super) fn in_range(
        &mut self,
        field: Field<'_>,
        number: u32,
        least: u32,
        most: u32,
    ) -> Option<u32> {
        if !(least..=most).contains(&number) {
            let message = format!("must be from {least} to {most}");
            self.error(field, Reason::Invalid, message);
            return None;
        }
        Some(number)
    }

    /// Those that are networks; the problems name the others.
    pub(super) fn networks(&mut self, field: Field<'_>, list: &[crds::text::Cidr]) -> Vec<IpNet> {
        let all = list.iter().enumerate();
        all.filter_map(|(i, text)| self.valid(format_args!("{field}[{i}]"), network(text)))
            .collect()
    }

    pub(super) fn header_edits(
        &mut self,
        field: Field<'_>,
        edits: Option<&crds::header::HeaderEdits>,
    ) -> HeaderEdits {
        let Some(edits) = edits else {
            return HeaderEdits::default();
        };
        let remove = edits.remove.iter().enumerate();
        let remove = remove.filter_map(|(i, name)| {
            let at = format_args!("{field}.remove[{i}]");
            self.header_name(&at, name)
        });
        let remove = remove.collect();
        HeaderEdits {
            set: self.header_list(&format_args!("{field}.set"), &edits.set),
            add: self.header_list(&format_args!("{field}.add"), &edits.add),
            remove,
        }
    }

    pub(super) fn header_list(
        &mut self,
        field: Field<'_>,
        list: &[crds::header::Header],
    ) -> Vec<(String, String)> {
        let mut headers = Vec::with_capacity(list.len());
        headers.extend(list.iter().enumerate().filter_map(|(i, header)| {
            let name = self.header_name(&format_args!("{field}[{i}].name"), &header.name)?;
            if !is_value(header.value.as_bytes()) {
                let at = format_args!("{field}[{i}].value");
                let message = "a header value has no control characters and no blank at its ends";
                self.error(at, Reason::Invalid, message);
                return None;
            }
            Some((name, header.value.to_string()))
        }));
        headers
    }

    /// In lower case.
    pub(super) fn header_name(&mut self, field: Field<'_>, name: &str) -> Option<String> {
        let lower = name.to_ascii_lowercase();
        let known = Known::of(lower.as_bytes());
        let message = if !is_token(name.as_bytes()) {
            format!("{name:?} is not a header name")
        } else if known.is_hop_by_hop() {
            format!("{lower} belongs to the connection and is set by the gateway alone")
        } else if known == Known::Host {
            "the host is changed by rewrite.hostname".to_owned()
        } else {
            return Some(lower);
        };
        self.error(field, Reason::Invalid, message);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_refused_in_one_line() {
        let pattern = "/items/([0-9]+";
        let message = expression(pattern, model::pattern::search(pattern)).unwrap_err();
        assert!(
            message.contains("unclosed group") && !message.contains('\n'),
            "{message}"
        );
    }

    #[test]
    fn networks() {
        for (text, is) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("FD00::1/8", "fd00::/8"),
            ("fd00::1", "fd00::1/128"),
            ("::ffff:10.1.0.0/112", "10.1.0.0/16"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(network(text).map(|n| n.to_string()).as_deref(), Ok(is));
        }
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "host", "fd00::/129"] {
            assert!(network(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn authorities() {
        for good in [
            "a.example.com",
            "a:80",
            "10.0.0.1:8080",
            "[::1]:80",
            "[::1]",
        ] {
            assert!(authority(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "*.a",
            "a:b",
            "a b",
            "a/b",
            "::1",
            "[x]:1",
            "a:99999",
            "${team}.x",
        ] {
            assert!(authority(bad).is_err(), "{bad}");
        }
    }
}
