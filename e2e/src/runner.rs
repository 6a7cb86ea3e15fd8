//! Plays a case against a gateway.
//!
//! After each step: apply, wait for the expected conditions, send the requests to each data plane until each has had its answer
//! once, then send them all again without patience. The first pass lets the change arrive, the second shows that it stays.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::asked::{Asked, connect, is_https, to_request};
use crate::authority::Authority;
use crate::backend::Backend;
use crate::case::{Case, LoadSpec, Persistence, RequestSpec, Step};
use crate::check;
use crate::client::{Answer, Connection, Request};
use crate::gateway::{Gateway, eventually};
use crate::load::Load;
use crate::objects::{Key, Object};
use crate::websocket;

/// Requests of each load that pass between two steps.
const UNDER_LOAD: usize = 20;

/// Play a whole case. On failure the error says step, request and what was different, and ends with the gateway's log.
pub fn run(case: &Case, gateway: &mut dyn Gateway) -> Result<()> {
    play(case, gateway).map_err(|e| {
        anyhow::anyhow!(
            "{e:#}\n--- the gateway's last lines\n{}",
            gateway.log_tail()
        )
    })
}

fn play(case: &Case, gateway: &mut dyn Gateway) -> Result<()> {
    let host = gateway.backend_host().to_owned();
    let mut backends = Vec::new();
    for spec in &case.spec.backends {
        backends.push(Backend::start(spec, &case.namespace(), &host)?);
    }
    let mut objects = Vec::new();
    for backend in &backends {
        objects.extend(backend.objects()?);
    }
    let authority = Authority::new()?;
    for spec in &case.spec.certificates {
        objects.push(authority.secret(spec, &case.namespace())?);
    }
    gateway.apply(&objects)?;
    let counted = counts(case, gateway)?;
    let mut placeholders: Vec<(String, String)> =
        backends.iter().flat_map(Backend::placeholders).collect();
    for name in &case.spec.ports {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        placeholders.push((format!("${{{name}.port}}"), port.to_string()));
    }
    let mut loads: Vec<Load> = Vec::new();
    let mut revisions = Vec::new();
    for step in &case.steps {
        let shown = || format!("step {}", step.name);
        loads
            .iter()
            .try_for_each(|load| load.pass(UNDER_LOAD))
            .with_context(shown)?;
        apply_step(case, step, &placeholders, gateway).with_context(shown)?;
        let address = gateway.address().with_context(shown)?;
        for (key, expected) in &step.conditions {
            eventually(|| {
                let status = gateway
                    .status(key)?
                    .with_context(|| format!("{key} has no status of its present generation"))?;
                let wrong = check::conditions(expected, &status);
                ensure!(wrong.is_empty(), "{key}: {}", wrong.join("; "));
                Ok(())
            })
            .with_context(shown)?;
        }
        let mut targets = Vec::with_capacity(step.requests.len());
        for spec in &step.requests {
            let first = match &spec.gateway {
                None if spec.admin => vec![gateway.admin().with_context(shown)?],
                None if is_https(spec)? => gateway.each_https().with_context(shown)?,
                None => gateway.each_address().with_context(shown)?,
                Some(named) => {
                    let (key, listener) = of_gateway(case, named);
                    let one = eventually(|| gateway.address_of(&key, listener));
                    vec![one.with_context(|| format!("step {}: {key}", step.name))?]
                }
            };
            for one in &first {
                eventually(|| send(known(spec, gateway)?.as_ref(), *one, &authority))
                    .with_context(|| format!("step {}: {} ({one})", step.name, title(spec)))?;
            }
            // Two that are under way together share a data plane.
            let is_alone = spec.gateway.is_some() || spec.admin || spec.beside.is_some();
            targets.push(match first.first() {
                Some(one) if is_alone => *one,
                _ if is_https(spec)? => gateway.https().with_context(shown)?,
                _ => address,
            });
        }
        for (spec, target) in step.requests.iter().zip(targets) {
            send(known(spec, gateway)?.as_ref(), target, &authority)
                .with_context(|| format!("step {}, second pass: {}", step.name, title(spec)))?;
        }
        for (key, expected) in &step.events {
            eventually(|| {
                let Some(events) = gateway.events(key)? else {
                    return Ok(());
                };
                for wanted in expected {
                    let found = events.iter().any(|e| check::contains(wanted, e));
                    ensure!(found, "{key}: no Event with {wanted} among {events:?}");
                }
                Ok(())
            })
            .with_context(shown)?;
        }
        if case.spec.revisions {
            revisions.push(another_revision(gateway, &revisions).with_context(shown)?);
        }
        if loads.is_empty() {
            for spec in &case.spec.load {
                loads.push(start_load(spec, address)?);
            }
        }
    }
    for load in loads {
        load.pass(UNDER_LOAD)?;
        load.finish()?;
    }
    for wanted in &case.spec.access_log {
        eventually(|| {
            let lines = gateway.access_log()?;
            let found = lines
                .iter()
                .filter_map(|l| serde_json::from_str::<Value>(l).ok())
                .any(|l| check::contains(wanted, &l));
            ensure!(
                found,
                "no access log line with {wanted} in {} lines, the last: {:?}",
                lines.len(),
                lines.last()
            );
            Ok(())
        })?;
    }
    for parts in &case.spec.log {
        eventually(|| {
            let lines = gateway.log()?;
            let found = lines
                .iter()
                .any(|line| parts.iter().all(|part| line.contains(part)));
            ensure!(found, "no line with {parts:?} in the log");
            Ok(())
        })?;
    }
    eventually(|| {
        let now = counts(case, gateway)?;
        let all = case.spec.grown.iter().zip(counted.iter().zip(now));
        for ((name, least), (before, now)) in all {
            let more = now - before;
            ensure!(more >= *least, "{name} has grown by {more}");
        }
        Ok(())
    })
}

/// What the metrics that are to grow have come to, of all data planes together.
fn counts(case: &Case, gateway: &dyn Gateway) -> Result<Vec<f64>> {
    if case.spec.grown.is_empty() {
        return Ok(Vec::new());
    }
    let pages = gateway.metrics()?;
    let lines: Vec<&str> = pages.iter().flat_map(|page| page.lines()).collect();
    let sum = |name: &String| {
        let values = lines.iter().filter_map(|line| {
            let value = line.strip_prefix(name.as_str())?.strip_prefix(' ')?;
            value.parse::<f64>().ok()
        });
        values.sum()
    };
    Ok(case.spec.grown.keys().map(sum).collect())
}

/// The one revision that all data planes show, when it is none of those before.
fn another_revision(gateway: &dyn Gateway, before: &[String]) -> Result<String> {
    eventually(|| {
        let shown = gateway.revisions()?;
        let (first, others) = shown.split_first().context("no data plane")?;
        ensure!(
            others.iter().all(|r| r == first) && !before.contains(first),
            "revisions {shown:?}, before {before:?}"
        );
        Ok(first.clone())
    })
}

/// The request with what `${revision}` in its expected header fields stands for.
fn known<'a>(spec: &'a RequestSpec, gateway: &dyn Gateway) -> Result<Cow<'a, RequestSpec>> {
    const REVISION: &str = "${revision}";
    if !spec.expect.headers.values().any(|value| value == REVISION) {
        return Ok(Cow::Borrowed(spec));
    }
    let shown = gateway.revisions()?;
    let (first, others) = shown.split_first().context("no data plane")?;
    ensure!(others.iter().all(|r| r == first), "revisions {shown:?}");
    let mut spec = spec.clone();
    let all = spec.expect.headers.values_mut();
    all.filter(|value| *value == REVISION)
        .for_each(|value| value.clone_from(first));
    Ok(Cow::Owned(spec))
}

fn start_load(spec: &LoadSpec, address: SocketAddr) -> Result<Load> {
    let asked = Asked::parse(&spec.send)?;
    let is_plain = asked.method == "GET" && !asked.https;
    ensure!(is_plain, "load is GETs in clear");
    let field = spec.same_both_ways.clone();
    Ok(Load::checked(
        address,
        asked.host,
        asked.target,
        move |answer| {
            let field = field.as_deref()?;
            let back = answer.headers.get(field);
            let echo: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let there = echo["headers"][field].as_str();
            (back.is_none() || back != there).then(|| {
                format!("{field} was {there:?} on the way there and {back:?} on the way back")
            })
        },
    ))
}

fn apply_step(
    case: &Case,
    step: &Step,
    placeholders: &[(String, String)],
    gateway: &mut dyn Gateway,
) -> Result<()> {
    gateway.delete(&step.delete)?;
    let mut text = fs::read_to_string(&step.file)?;
    for (placeholder, value) in placeholders {
        text = text.replace(placeholder, value);
    }
    if case.spec.verbatim {
        let file = step
            .name
            .split_once('-')
            .map_or(step.name.as_str(), |(_, rest)| rest);
        return gateway.place(&format!("{file}.yaml"), &text);
    }
    let (refused, accepted): (Vec<Object>, Vec<Object>) = Object::parse_all(&text)?
        .into_iter()
        .partition(|o| step.refused.iter().any(|(key, _)| *key == o.key));
    // Those refused come first: when the others have arrived, these have been looked at.
    for (key, part) in &step.refused {
        let object = refused
            .iter()
            .find(|o| o.key == *key)
            .with_context(|| format!("{key} is not in the step"))?;
        match gateway.apply_refused(object)? {
            None => bail!("{key} was accepted, a refusal with {part:?} was expected"),
            Some(message) => ensure!(
                message.contains(part),
                "{key} was refused without {part:?}: {message}"
            ),
        }
    }
    gateway.apply(&accepted)?;
    // Whatever was accepted for storing has been looked at before requests are sent.
    let ours: Vec<Key> = accepted
        .into_iter()
        .map(|o| o.key)
        .filter(|k| {
            matches!(
                k.kind.as_str(),
                "Route"
                    | "Upstream"
                    | "HTTPRoute"
                    | "GRPCRoute"
                    | "TLSRoute"
                    | "TCPRoute"
                    | "UDPRoute"
            )
        })
        .collect();
    gateway.address()?;
    for key in ours {
        eventually(|| {
            gateway
                .status(&key)?
                .map(|_| ())
                .with_context(|| format!("{key} has no status of its present generation"))
        })?;
    }
    Ok(())
}

/// The Gateway of `NAME` or `NAME/LISTENER`, or the GatewayConfig of `GatewayConfig/NAME/LISTENER`, and the listener.
fn of_gateway<'a>(case: &Case, named: &'a str) -> (Key, Option<&'a str>) {
    const CONFIG: &str = "GatewayConfig";
    let of_config = named
        .strip_prefix(CONFIG)
        .and_then(|rest| rest.strip_prefix('/'));
    let (kind, named) = match of_config {
        Some(rest) => (CONFIG, rest),
        None => ("Gateway", named),
    };
    let (name, listener) = match named.split_once('/') {
        Some((name, listener)) => (name, Some(listener)),
        None => (named, None),
    };
    let key = Key {
        kind: kind.into(),
        namespace: case.namespace(),
        name: name.into(),
    };
    (key, listener)
}

fn title(spec: &RequestSpec) -> String {
    spec.name.clone().unwrap_or_else(|| spec.send.clone())
}

/// Send a request as often as it says, on one connection as long as that is kept, and compare.
fn send(spec: &RequestSpec, address: SocketAddr, authority: &Authority) -> Result<()> {
    let mut request = to_request(spec)?;
    let connect = || connect(spec, address, authority);
    // Until this one is answered.
    let _beside = match &spec.beside {
        None => None,
        Some(line) => {
            let request = Asked::parse(line)?.request();
            // The gateway may have yet to notice that the one before has gone.
            Some(eventually(|| {
                let mut open = connect()?;
                open.begin(&request).with_context(|| line.clone())?;
                Ok(open)
            })?)
        }
    };
    if spec.at_once > 1 {
        let answer = first_of(spec.at_once, &request, connect)?;
        let wrong = check::answer(&spec.expect, &answer);
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        return Ok(());
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut connection = None;
    for _ in 0..spec.repeat {
        let mut open = match connection.take() {
            Some(open) => open,
            None => connect()?,
        };
        let begun = Instant::now();
        let answer = open.send(&request)?;
        let took = begun.elapsed().as_millis();
        let mut wrong = check::answer(&spec.expect, &answer);
        if let Some([least, most]) = spec.expect.took_ms
            && !(u128::from(least)..=u128::from(most)).contains(&took)
        {
            wrong.push(format!("took {took} ms instead of {least} to {most}"));
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        *counts.entry(answered_by(&answer)).or_default() += 1;
        if spec.keep_cookies
            && let Some(cookie) = answer.headers.get("set-cookie")
        {
            let pair = cookie.split(';').next().unwrap_or_default();
            request.headers.retain(|(name, _)| name != "cookie");
            request.headers.push(("cookie".into(), pair.into()));
        }
        if let Some(conversation) = &spec.websocket {
            check_switch(&answer)?;
            open.converse(&conversation.send, &conversation.expect)?;
        } else if answer.keep_alive {
            connection = Some(open);
        } else if spec.expect.connection == Some(Persistence::Closed) {
            ensure!(open.closed()?, "the connection says close and stays open");
        }
    }
    ensure!(
        !spec.same_backend || counts.len() == 1,
        "more than one backend answered ({counts:?})"
    );
    for (who, [least, most]) in &spec.distribution {
        let count = counts.get(who).copied().unwrap_or_default();
        ensure!(
            (*least..=*most).contains(&count),
            "{who} answered {count} of {}, {least} to {most} expected ({counts:?})",
            spec.repeat
        );
    }
    Ok(())
}

/// Sends a request so many times at the same time; the answer that comes first.
fn first_of(
    count: usize,
    request: &Request,
    connect: impl Fn() -> Result<Connection>,
) -> Result<Answer> {
    let (sender, answers) = mpsc::channel();
    for _ in 0..count {
        let (mut open, request, sender) = (connect()?, request.clone(), sender.clone());
        // Those that come later find nobody who waits for them.
        thread::spawn(move || sender.send(open.send(&request)));
    }
    answers.recv()?
}

/// Whether the answer is that of RFC 6455 section 4.2.2.
fn check_switch(answer: &Answer) -> Result<()> {
    ensure!(
        answer.status == 101,
        "status {} instead of 101",
        answer.status
    );
    for (name, value) in [
        ("connection", "upgrade".to_owned()),
        ("upgrade", "websocket".to_owned()),
        ("sec-websocket-accept", websocket::accept(websocket::KEY)),
    ] {
        let got = answer.headers.get(name).unwrap_or_default();
        ensure!(got.eq_ignore_ascii_case(&value), "{name} is {got:?}");
    }
    Ok(())
}

/// The name in an echo backend's answer, else the status.
fn answered_by(answer: &Answer) -> String {
    answer
        .headers
        .get("x-backend")
        .map_or_else(|| answer.status.to_string(), str::to_owned)
}
