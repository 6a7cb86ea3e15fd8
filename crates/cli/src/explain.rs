//! `diolkos explain`: the answer of the matcher that serves traffic.

use crate::inspect::{print, print_problems};
use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use controller::standalone::check;
use dataplane::engine::{Host, Method, Target, sanitize};
use dataplane::h1::Reject;
use dataplane::table::explain::Asked;
use dataplane::table::{Compiler, Query, Table, explain as explain_request};
use model::{EscapedSlashes, Headers, ListenerProtocol};
use snapshot::Changes;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory or file of manifests
    dir: PathBuf,
    /// Request method, such as GET
    method: String,
    /// URL, such as http://shop.example.com/cart?id=1; of a connection tls://HOST:PORT, tcp://HOST:PORT or udp://HOST:PORT
    url: String,
    /// A request header; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Key of the listener, NAMESPACE/CONFIG/LISTENER [default: by the URL's scheme and port]
    #[arg(long)]
    listener: Option<String>,
    /// The client's address, behind proxies that are trusted; without it rules with clientCIDRs match nothing
    #[arg(long, value_name = "IP")]
    client_ip: Option<IpAddr>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

pub(crate) fn explain(args: &Args) -> Result<ExitCode> {
    let checked = check(std::slice::from_ref(&args.dir));
    print_problems(&checked.problems);
    let table = Compiler::new()
        .apply(Changes::of(&checked.translation.resources.model()))
        .map_err(|rejected| {
            anyhow!(
                "{}",
                rejected
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("\n")
            )
        })?;

    let url = Url::parse(&args.url)?;
    let listener = match &args.listener {
        Some(key) => key.clone(),
        None => listener_for(&table, &url)?,
    };
    let of_listener = table.listeners.get(&*listener);
    let edge = of_listener.map(|l| l.listener.edge).unwrap_or_default();
    let target = url.target(edge.escaped_slashes)?;
    let mut headers = Headers::default();
    for header in &args.headers {
        let (name, value) = header
            .split_once(':')
            .with_context(|| format!("-H {header:?}: write it as 'name: value'"))?;
        headers
            .append(name.trim(), value.trim().as_bytes())
            .with_context(|| format!("-H {header:?}"))?;
    }
    sanitize::client_headers(&mut headers, false);
    let method =
        Method::parse(&args.method).with_context(|| format!("{:?} is no method", args.method))?;
    let asked = Asked {
        query: Query {
            method: method.as_str(),
            host: url.host.name(),
            path: target.path(),
            query: target.query(),
            headers: &headers,
            client: args
                .client_ip
                .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
                .to_canonical(),
        },
        scheme: url.scheme,
        port: url.host.port(),
    };
    let explanation = explain_request(&table, &listener, &asked)
        .with_context(|| format!("there is no listener {listener}"))?;
    print(&match args.output {
        Output::Text => explanation.to_string(),
        Output::Json => serde_json::to_string_pretty(&explanation)? + "\n",
    })
}

/// The listener of that scheme to which the host belongs: on that port, else on that of the first listener of the scheme.
fn listener_for(table: &Table, url: &Url) -> Result<String> {
    let wanted = match url.scheme {
        "https" => ListenerProtocol::Https,
        "tls" => ListenerProtocol::Tls,
        "tcp" => ListenerProtocol::Tcp,
        "udp" => ListenerProtocol::Udp,
        _ => ListenerProtocol::Http,
    };
    let all = table.listeners.values();
    let found = all
        .filter(|l| l.listener.protocol == wanted)
        .min_by_key(|l| {
            let elsewhere = url.host.port() != Some(l.listener.port);
            (elsewhere, l.listener.order, &l.key)
        });
    let first =
        found.with_context(|| format!("the manifests have no usable {} listener", url.scheme))?;
    let of_port = match wanted {
        ListenerProtocol::Udp => None,
        _ => table.ports.get(&first.listener.port),
    };
    let found = of_port.map_or(&**first, |of_port| of_port.of(url.host.name()));
    Ok(found.key.to_string())
}

/// The parts of a URL. The edge gate gives the host its form for all listeners alike.
struct Url {
    scheme: &'static str,
    host: Host,
    target: String,
}

impl Url {
    fn parse(text: &str) -> Result<Self> {
        let (scheme, rest) = match text.split_once("://") {
            None => ("http", text),
            Some(("http", rest)) => ("http", rest),
            Some(("https", rest)) => ("https", rest),
            Some((scheme, rest)) => {
                let mut known = ["tls", "tcp", "udp"].into_iter();
                let Some(known) = known.find(|known| *known == scheme) else {
                    bail!("{text}: the scheme is http, https, tls, tcp or udp, not {scheme}");
                };
                (known, rest)
            }
        };
        let (authority, target) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let target = if target.starts_with('?') {
            format!("/{target}")
        } else {
            target.to_owned()
        };
        let mut url = Self {
            scheme,
            host: Host::default(),
            target,
        };
        if !authority.is_empty() {
            let host = sanitize::host(authority.as_bytes(), &mut url.host);
            host.map_err(|reject| refused(text, reject))?;
        }
        Ok(url)
    }

    /// Path and query in the form that the edge gate gives them.
    fn target(&self, slashes: EscapedSlashes) -> Result<Target> {
        let mut target = Target::default();
        let taken = sanitize::target(self.target.as_bytes(), slashes, &mut target);
        taken.map_err(|reject| refused(&self.target, reject))?;
        Ok(target)
    }
}

fn refused(what: &str, reject: Reject) -> anyhow::Error {
    let (status, code, reason) = (reject.status, reject.code, reject.reason);
    anyhow!("{what}: the gateway answers {status} {code}: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_take_the_form_that_requests_get() {
        let target = |text| Url::parse(text)?.target(EscapedSlashes::Reject);
        let url = Url::parse("http://Shop.Example.com:8080/a/../b//c?x=%41").unwrap();
        assert_eq!(url.host.name(), "shop.example.com");
        assert_eq!(url.host.port(), Some(8080));
        assert_eq!(url.scheme, "http");
        assert_eq!(Url::parse("https://shop.test/").unwrap().scheme, "https");
        for (text, normal) in [
            ("http://shop.example.com/a/../b//c?x=%41", "/b/c?x=%41"),
            ("/only/path", "/only/path"),
            ("shop.test?x", "/?x"),
        ] {
            assert_eq!(target(text).unwrap().as_str(), normal, "{text}");
        }
        for bad in ["ftp://a/", "http://a b/", "http://a/../..", "http://a/%2f"] {
            assert!(target(bad).is_err(), "{bad}");
        }
        let kept = Url::parse("http://a/b%2fc").unwrap();
        let kept = kept.target(EscapedSlashes::Keep).unwrap();
        assert_eq!(kept.path(), "/b%2Fc");
    }
}
