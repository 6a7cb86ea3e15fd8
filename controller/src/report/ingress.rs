//! The status of an Ingress: where it is reached. What is wrong with it has no place there.

use super::ObjectReport;
use serde_json::{Value, json};
use std::net::IpAddr;

pub(super) fn status(report: &ObjectReport) -> Value {
    let addresses = report.addresses.iter().flatten();
    let ingress = addresses.map(|address| match address.parse::<IpAddr>() {
        Ok(_) => json!({ "ip": address }),
        Err(_) => json!({ "hostname": address }),
    });
    json!({ "loadBalancer": { "ingress": ingress.collect::<Vec<_>>() } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{ObjectId, ObjectKind};

    #[test]
    fn addresses_and_names() {
        let id = ObjectId::new(ObjectKind::Ingress, "a", "b");
        let mut report = ObjectReport::new(id, 1, Vec::new());
        report.addresses = Some(vec!["10.0.0.1".into(), "fd00::1".into(), "lb.test".into()]);
        let ingress = json!([{"ip": "10.0.0.1"}, {"ip": "fd00::1"}, {"hostname": "lb.test"}]);
        assert_eq!(
            status(&report),
            json!({"loadBalancer": {"ingress": ingress}})
        );
    }
}
