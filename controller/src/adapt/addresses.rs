//! Addresses that a Gateway asks for (Gateway API, GatewaySpec.addresses). They are the load balancer's to give.

use super::Fault;
use crate::report::Reason;
use gateway_api::gateway::GatewaySpec;
use std::net::IpAddr;

/// The one type that can be asked for, and the default.
const TYPE: &str = "IPAddress";

/// What cannot be asked for.
pub(crate) fn faults(spec: &GatewaySpec) -> impl Iterator<Item = Fault> {
    let all = spec.addresses.iter().flatten().enumerate();
    all.filter_map(|(i, address)| {
        let type_ = address.r#type.as_deref().unwrap_or(TYPE);
        (type_ != TYPE).then(|| Fault {
            field: format!("spec.addresses[{i}].type"),
            reason: Reason::UnsupportedAddress,
            message: format!("must be {TYPE}, not {type_}"),
        })
    })
}

/// The addresses that are asked for, each with its field. One without a value may be any.
pub(crate) fn wanted(spec: &GatewaySpec) -> impl Iterator<Item = (String, &str)> {
    let all = spec.addresses.iter().flatten().enumerate();
    all.filter(|(_, address)| address.r#type.as_deref().unwrap_or(TYPE) == TYPE)
        .filter_map(|(i, address)| {
            let value = address.value.as_deref().filter(|value| !value.is_empty())?;
            Some((format!("spec.addresses[{i}].value"), value))
        })
}

/// The one that a load balancer can be asked for.
pub(crate) fn first(spec: &GatewaySpec) -> Option<IpAddr> {
    wanted(spec).find_map(|(_, value)| value.parse().ok())
}

/// What is wrong with those that are asked for and not among the ones that were `given`.
pub(crate) fn lacking(spec: &GatewaySpec, given: &[String]) -> Vec<String> {
    let same = |one: &str, other: &str| match (one.parse::<IpAddr>(), other.parse::<IpAddr>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    };
    let first = first(spec).map(|first| first.to_string());
    wanted(spec)
        .filter(|(_, value)| !given.iter().any(|one| same(one, value)))
        .map(|(field, value)| {
            let why = match (value.parse::<IpAddr>(), &first) {
                (Err(_), _) => "is not an IP address".to_owned(),
                (Ok(_), Some(first)) if !same(first, value) => {
                    format!("cannot be had beside {first}: a load balancer is asked for one")
                }
                _ => "has not been given by the load balancer".to_owned(),
            };
            format!("{field}: {value} {why}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_api::gateway::GatewayAddresses;

    fn asking(addresses: &[(Option<&str>, &str)]) -> GatewaySpec {
        let addresses = addresses.iter().map(|&(type_, value)| GatewayAddresses {
            r#type: type_.map(str::to_owned),
            value: (!value.is_empty()).then(|| value.to_owned()),
        });
        GatewaySpec {
            addresses: Some(addresses.collect()),
            ..GatewaySpec::default()
        }
    }

    #[test]
    fn one_address_can_be_had() {
        let spec = asking(&[
            (None, ""),
            (None, "10.0.0.1"),
            (Some(TYPE), "10.0.0.2"),
            (None, "somewhere"),
        ]);
        assert_eq!(first(&spec), "10.0.0.1".parse().ok());
        assert_eq!(
            lacking(&spec, &["10.0.0.1".to_owned()]),
            [
                "spec.addresses[2].value: 10.0.0.2 cannot be had beside 10.0.0.1: a load balancer is asked for one",
                "spec.addresses[3].value: somewhere is not an IP address",
            ]
        );
        assert_eq!(
            lacking(&spec, &[])[0],
            "spec.addresses[1].value: 10.0.0.1 has not been given by the load balancer"
        );
        assert_eq!(faults(&spec).count(), 0);
    }

    #[test]
    fn an_address_is_the_same_however_it_is_written() {
        let spec = asking(&[(None, "2001:db8:0::1")]);
        assert!(lacking(&spec, &["2001:db8::1".to_owned()]).is_empty());
    }

    #[test]
    fn other_types_are_refused() {
        let spec = asking(&[(None, "10.0.0.1"), (Some("Hostname"), "a.example.com")]);
        let faults: Vec<Fault> = faults(&spec).collect();
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].field, "spec.addresses[1].type");
        assert_eq!(faults[0].reason, Reason::UnsupportedAddress);
        assert!(lacking(&spec, &["10.0.0.1".to_owned()]).is_empty());
    }
}
