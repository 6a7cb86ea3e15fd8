//! A table as text, the same for equal tables however they came to be.

use super::*;
use crate::table::hosts::Entry;
use model::Stage;
use std::collections::BTreeMap;
use std::fmt::Write as _;

pub(super) fn dump(table: &Table) -> String {
    let mut out = String::new();
    for (port, of_port) in &table.ports {
        for (listener, refused) in of_port.listeners() {
            let key = &listener.key;
            let is_same = Arc::ptr_eq(listener, &table.listeners[key]);
            assert!(is_same, "{key} is another one on its port");
            let here = std::ptr::eq(
                of_port.of(&host_of(&listener.listener.hostname)),
                &**listener,
            );
            writeln!(out, "port {port} {key} {refused:?} {here}").unwrap();
        }
    }
    for (key, listener) in &table.listeners {
        let lengths: Vec<_> = listener.wildcard_lengths.iter().collect();
        let precedence = listener.precedence_hosts;
        writeln!(
            out,
            "listener {key} {:?} wildcards={lengths:?} precedence={precedence}",
            listener.listener
        )
        .unwrap();
        for host in ["x.a", "y.b.a", "a", "c"] {
            writeln!(out, " {host} is of {:?}", listener.owners.get(host)).unwrap();
        }
        let hosts: BTreeMap<_, _> = listener.hosts().map(|h| (h.pattern.clone(), h)).collect();
        assert_eq!(hosts.len(), listener.hosts().count());
        for host in hosts.values() {
            writeln!(
                out,
                " host {} precedence={}",
                host.pattern,
                host.has_precedence()
            )
            .unwrap();
            for entry in host.entries() {
                let path = entry.matcher().path.to_string();
                entries(&mut out, &path, &host.pattern, std::slice::from_ref(entry));
            }
        }
    }
    out
}

/// One that the pattern covers.
fn host_of(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(name) => name.to_string(),
        HostPattern::Wildcard(suffix) => format!("any.{suffix}"),
        HostPattern::Any | HostPattern::Regex(_) => "nobody.invalid".to_owned(),
    }
}

fn entries(out: &mut String, kind: &str, host: &HostPattern, list: &[Entry]) {
    for entry in list {
        let rule = &entry.rule;
        let m = entry.matcher();
        writeln!(out, "  {kind}: {} {:?}", entry.rank(host), entry.rank(host)).unwrap();
        writeln!(
            out,
            "   {} {} {:?} {:?} {:?}",
            rule.spec.route.key,
            rule.label(),
            m.path,
            m.conditions().methods,
            m.conditions().headers.len()
        )
        .unwrap();
        let stages = [
            Stage::PreRequest,
            Stage::PostRequest,
            Stage::PreResponse,
            Stage::PostResponse,
        ];
        for stage in stages {
            let names: Vec<_> = rule.chain().names(stage).collect();
            write!(out, "   {names:?}").unwrap();
        }
        match rule.action() {
            Action::Respond(r) => writeln!(out, "   respond {r:?}"),
            Action::Redirect(r) => writeln!(out, "   redirect {r:?}"),
            Action::Closed { code } => writeln!(out, "   closed {code}"),
            Action::Forward(backends) => backends.iter().try_for_each(|b| {
                write!(out, "   {} {}", b.weight, b.target)?;
                match b.upstream {
                    None => writeln!(out, " none"),
                    Some(u) => {
                        let set = u.endpoints();
                        let all: Vec<_> = set
                            .endpoints()
                            .iter()
                            .map(|e| (e.addr, e.weight, e.ready))
                            .collect();
                        let take: Vec<_> = set.candidates().iter().map(|e| e.addr).collect();
                        writeln!(
                            out,
                            " {:?} {} {:?} {all:?} {take:?} {:?}",
                            u.settings.balance.policy,
                            u.settings.path_prefix,
                            u.settings.authority,
                            u.dns_names()
                        )
                    }
                }
            }),
        }
        .unwrap();
    }
}
