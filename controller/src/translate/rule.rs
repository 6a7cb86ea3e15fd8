//! One rule of a Route.

use super::effective::Used;
use super::lowering::Lowering;
use super::values::NEVER_MS;
use crate::report::{Field, Reason};
use crate::world::ObjectKind;
use crds::RouteRule;
use model::{Action, Match, Rule, Target, Timeouts, limits};
use std::collections::BTreeMap;

/// What a rule answers that asks for something about access or limits that cannot be honoured.
const PLUGIN_ERROR: &str = "plugin_error";
/// What a rule answers that is invalid, as long as no older version of the Route can serve.
const INVALID_BACKEND: &str = "invalid_backend";

/// What there is to say of a rule beside what stands in it.
#[derive(Default)]
pub(super) struct Extras {
    /// It must not be served.
    pub closed: bool,
    /// As in the model.
    pub hides_methods: bool,
    /// Shares of mirrors by position, in millionths.
    pub mirrors: BTreeMap<usize, u32>,
    /// Its place in the list, by which it goes where it has no name.
    pub place: usize,
}

/// What the rules of a Route have in common.
pub(super) struct OfRoute {
    /// Plugins of the Route; they come before those of the rule.
    pub plugins: Vec<Used>,
    /// Named groups of its hostnameRegex.
    pub groups: Vec<String>,
    /// Nothing of the Route may be served as it asks.
    pub closed: bool,
}

impl Lowering<'_> {
    /// `None` when no match of the rule can be understood.
    pub(super) fn rule(
        &mut self,
        field: Field<'_>,
        rule: &RouteRule,
        route: &OfRoute,
        extras: &Extras,
    ) -> Option<Rule> {
        let before = self.out.problems.len();
        let matches = self.rule_matches(field, rule);
        let mut own = Vec::new();
        let usable = self.plugin_uses(&format_args!("{field}.plugins"), &rule.plugins, &mut own);
        let action = self.action(field, rule, &route.groups);
        let rewrite = self.rewrite(
            &format_args!("{field}.rewrite"),
            rule.rewrite.as_ref(),
            &route.groups,
        );
        let request_headers = self.header_edits(
            &format_args!("{field}.requestHeaders"),
            rule.request_headers.as_ref(),
        );
        let response_headers = self.header_edits(
            &format_args!("{field}.responseHeaders"),
            rule.response_headers.as_ref(),
        );
        let timeouts = self.timeouts(&format_args!("{field}.timeouts"), rule.timeouts.as_ref());
        let retry = self.retry(&format_args!("{field}.retry"), rule.retry.as_ref());
        let affinity = self.affinity(
            &format_args!("{field}.sessionAffinity"),
            rule.session_affinity.as_ref(),
        );
        let concurrency = self.request_concurrency(
            &format_args!("{field}.concurrency"),
            rule.concurrency.as_ref(),
        );
        let max_request_body = match &rule.max_request_body {
            None => Some(limits::REQUEST_BODY),
            Some(size) => self.valid(format_args!("{field}.maxRequestBody"), size.bytes()),
        };
        let mirrors = self.mirrors(
            &format_args!("{field}.mirrors"),
            &rule.mirrors,
            &extras.mirrors,
        );
        let invalid = self
            .out
            .problems
            .iter()
            .skip(before)
            .any(|p| p.reason == Reason::Invalid);
        let closes = |code: &str| Action::Closed {
            code: code.to_owned(),
        };
        let action = match action {
            _ if extras.closed || route.closed || !usable => closes(PLUGIN_ERROR),
            Some(action) if !invalid => action,
            _ => closes(INVALID_BACKEND),
        };
        // A closed rule runs nothing: what it was to check cannot be checked.
        let mut plugins = Vec::new();
        if !matches!(action, Action::Closed { .. }) {
            let uses = route.plugins.iter().chain(&own);
            plugins.extend(uses.map(|used| used.plugin.clone()));
        }
        if matches.is_empty() {
            return None;
        }
        if !plugins.is_empty() {
            let place = extras.place.to_string();
            self.take_effect(&route.plugins, &own, rule.name.as_deref().unwrap_or(&place));
        }
        Some(Rule {
            name: rule.name.as_deref().unwrap_or_default().to_owned(),
            precedence: rule.precedence.unwrap_or(0),
            rewrite: rewrite.unwrap_or_default(),
            request_headers,
            response_headers,
            timeouts,
            max_request_body: max_request_body.unwrap_or(limits::REQUEST_BODY),
            retry,
            affinity,
            concurrency,
            plugins,
            mirrors,
            grpc_web: rule.grpc_web.unwrap_or(false),
            hides_methods: extras.hides_methods,
            ..Rule::new(matches, action)
        })
    }

    fn rule_matches(&mut self, field: Field<'_>, rule: &RouteRule) -> Vec<Match> {
        if rule.matches.is_empty() {
            return vec![Match::any()];
        }
        let all = rule.matches.iter().enumerate();
        let understood =
            all.filter_map(|(i, m)| self.one_match(&format_args!("{field}.matches[{i}]"), m));
        let mut matches = Vec::with_capacity(rule.matches.len());
        matches.extend(understood);
        matches
    }

    /// What ends the request's way; `None` when it cannot be used.
    fn action(&mut self, field: Field<'_>, rule: &RouteRule, groups: &[String]) -> Option<Action> {
        let given = [
            rule.redirect.is_some(),
            rule.direct_response.is_some(),
            !rule.backends.is_empty(),
        ];
        if given.into_iter().filter(|is| *is).count() > 1 {
            let message = "only one of backends, redirect and directResponse may be given";
            self.error(field, Reason::Invalid, message);
            return None;
        }
        if let Some(redirect) = &rule.redirect {
            let redirect = self.redirect(&format_args!("{field}.redirect"), redirect, groups);
            return redirect.map(Action::Redirect);
        }
        if let Some(response) = &rule.direct_response {
            let response = self.direct_response(&format_args!("{field}.directResponse"), response);
            return response.map(Action::Respond);
        }
        let mut backends = self.backends(&format_args!("{field}.backends"), &rule.backends);
        if backends.is_empty() {
            // Of an HTTPRoute this is no fault: it answers 500 (Gateway API, HTTPRouteRule.backendRefs).
            if rule.plugins.is_empty() && self.id.kind == ObjectKind::Route {
                let message = "nothing answers: give one of backends, redirect and directResponse";
                self.error(field, Reason::Invalid, message);
                return None;
            }
            // A plugin is to answer. Where none does, the request ends with 500 and reaches nobody.
            backends.push(model::Backend::new(Target::Unresolved("none".to_owned())));
        }
        Some(Action::Forward(backends))
    }

    fn timeouts(&mut self, field: Field<'_>, timeouts: Option<&crds::RouteTimeouts>) -> Timeouts {
        let mut out = Timeouts::default();
        let Some(given) = timeouts else {
            return out;
        };
        // On the wire 0 means "none" for whole exchanges and attempts, and "the default" for connecting.
        for (name, value, slot, off) in [
            ("connect", &given.connect, &mut out.connect_ms, NEVER_MS),
            ("request", &given.request, &mut out.request_ms, 0),
            (
                "backendRequest",
                &given.backend_request,
                &mut out.backend_request_ms,
                0,
            ),
            (
                "firstByte",
                &given.first_byte,
                &mut out.first_byte_ms,
                NEVER_MS,
            ),
            (
                "streamIdle",
                &given.stream_idle,
                &mut out.stream_idle_ms,
                NEVER_MS,
            ),
            (
                "firstEvent",
                &given.first_event,
                &mut out.first_event_ms,
                NEVER_MS,
            ),
        ] {
            if let Some(value) = value
                && let Some(millis) = self.millis(&format_args!("{field}.{name}"), value)
            {
                *slot = if millis == 0 { off } else { millis };
            }
        }
        out
    }
}
