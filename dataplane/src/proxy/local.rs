//! Answers that the gateway gives itself: failures, a plugin's reply, redirects, direct responses, health.

use super::Proxy;
use super::exchange::{ResponseStage, Summary, request_view, show};
use super::fail::{self, Failure};
use super::grpc;
use super::hops;
use super::tap::{Why, verdict};
use crate::engine::{Down, DownExt, Exchange, Method, Outcome};
use crate::table::{ListenerTable, Redirect, Rule};
use bytes::Bytes;
use model::{DirectResponse, Place, Stage};
use plugins::{Filters, LocalReply};

impl Proxy {
    pub(super) async fn instead<D: Down>(
        &self,
        x: &mut Exchange<'_, D>,
        rule: Option<&Rule>,
        why: Why,
        summary: &mut Summary,
    ) -> Outcome {
        match why {
            Why::Failure(failure) => self.fail(x, rule, failure, summary).await,
            Why::Reply(reply) => self.reply(x, rule, &reply, summary).await,
        }
    }

    /// A plugin's answer.
    async fn reply<D: Down>(
        &self,
        x: &mut Exchange<'_, D>,
        rule: Option<&Rule>,
        reply: &LocalReply,
        summary: &mut Summary,
    ) -> Outcome {
        if !reply.delay.is_zero() {
            tokio::time::sleep(reply.delay).await;
        }
        let body = match &reply.error {
            None => {
                x.answer.reset(reply.status);
                reply.body.clone()
            }
            Some((code, message)) => {
                let failure = Failure {
                    status: reply.status,
                    ..Failure::from(*code)
                };
                summary.failure(failure, message.as_deref(), x.request, x.answer)
            }
        };
        for (name, value) in &reply.headers {
            if x.answer.headers.append(name, value.as_bytes()).is_err() {
                return self.fail(x, rule, fail::PLUGIN_ERROR, summary).await;
            }
        }
        self.send(x, rule, body, true, summary).await
    }

    pub(super) async fn fail<D: Down>(
        &self,
        x: &mut Exchange<'_, D>,
        rule: Option<&Rule>,
        failure: Failure,
        summary: &mut Summary,
    ) -> Outcome {
        let body = summary.failure(failure, None, x.request, x.answer);
        self.send(x, rule, body, true, summary).await
    }

    pub(super) async fn not_allowed<D: Down>(
        &self,
        x: &mut Exchange<'_, D>,
        allow: &str,
        summary: &mut Summary,
    ) -> Outcome {
        let body = summary.failure(fail::METHOD_NOT_ALLOWED, None, x.request, x.answer);
        // Methods are tokens, and the list is bounded by the configuration.
        let _ = x.answer.headers.append("allow", allow.as_bytes());
        self.send(x, None, body, true, summary).await
    }

    /// OPTIONS that was to come no further.
    pub(super) async fn options<D: Down>(
        &self,
        x: &mut Exchange<'_, D>,
        summary: &mut Summary,
    ) -> Outcome {
        x.answer.reset(200);
        // A constant field in an empty list.
        let _ = x.answer.headers.append("allow", hops::METHODS.as_bytes());
        self.send(x, None, Bytes::new(), true, summary).await
    }

    pub(super) async fn redirect<D: Down>(
        &self,
        x: &mut Exchange<'_, D>,
        listener: &ListenerTable,
        rule: &Rule,
        redirect: &Redirect,
        prefix_len: usize,
        summary: &mut Summary,
    ) -> Outcome {
        let from = Place {
            scheme: summary.scheme,
            host: x.request.host.name(),
            port: x.request.host.port().or(listener.listener.redirect_port),
            path: x.request.path(),
            query: x.request.query(),
        };
        let mut location = String::new();
        redirect.location(&from, prefix_len, &mut location);
        x.answer.reset(redirect.status);
        if x.answer
            .headers
            .append("location", location.as_bytes())
            .is_err()
        {
            return self
                .fail(x, Some(rule), fail::INTERNAL_ERROR, summary)
                .await;
        }
        self.send(x, Some(rule), Bytes::new(), false, summary).await
    }

    pub(super) async fn direct<D: Down>(
        &self,
        x: &mut Exchange<'_, D>,
        rule: &Rule,
        direct: &DirectResponse,
        summary: &mut Summary,
    ) -> Outcome {
        x.answer.reset(direct.status);
        let kind = match &*direct.content_type {
            "" if direct.body.is_empty() => None,
            "" => Some("text/plain; charset=utf-8"),
            kind => Some(kind),
        };
        let headers = &mut x.answer.headers;
        let mut filled = match kind {
            Some(kind) => headers.append("content-type", kind.as_bytes()),
            None => Ok(()),
        };
        for (name, value) in &direct.headers {
            filled = filled.and_then(|()| headers.set(name, value.as_bytes()));
        }
        if filled.is_err() {
            return self
                .fail(x, Some(rule), fail::INTERNAL_ERROR, summary)
                .await;
        }
        let body = Bytes::from(direct.body.clone());
        self.send(x, Some(rule), body, false, summary).await
    }

    /// Sends an answer of our own. `local`: only plugins with `runOnLocalReply` see it (F16); redirects and direct
    /// responses stand where an upstream's answer would.
    async fn send<D: Down>(
        &self,
        x: &mut Exchange<'_, D>,
        rule: Option<&Rule>,
        mut body: Bytes,
        local: bool,
        summary: &mut Summary,
    ) -> Outcome {
        if let Some(rule) = rule {
            if !local
                && rule
                    .response_headers()
                    .apply(&mut x.answer.headers)
                    .is_err()
            {
                body = fail::INTERNAL_ERROR.answer(None, x.answer);
            }
            if !rule.chain().is_empty(Stage::PreResponse) {
                body = self.local_stages(x, rule, body, local, summary).await;
            }
        }
        // 421 is for what carries the calls, which may send them again on another connection (RFC 9110 section 15.5.20).
        if let Some(failure) = summary.failure
            && failure != fail::MISDIRECTED_REQUEST
            && grpc::is_request(x.request)
            && grpc::tell(failure, x.answer).is_ok()
        {
            summary.counted = Some(failure.status);
            body = Bytes::new();
        }
        // To HEAD no body follows: a type would announce a document that some clients then fail to read.
        if summary.failure.is_some() && x.request.method == Method::Head {
            x.answer.headers.remove("content-type");
        }
        show(summary.shows, x.answer);
        summary.status = x.answer.status;
        summary.local_bytes = match x.request.method {
            Method::Head => 0,
            _ => body.len() as u64,
        };
        match x.down.respond(x.answer, body).await {
            Ok(()) => Outcome::Done,
            Err(_) => Outcome::Close,
        }
    }

    /// `pre_response` for an answer of our own. A plugin may answer instead, once.
    async fn local_stages<D: Down>(
        &self,
        x: &mut Exchange<'_, D>,
        rule: &Rule,
        body: Bytes,
        local: bool,
        summary: &mut Summary,
    ) -> Bytes {
        let (outcome, mut filters) = {
            let mut stage = ResponseStage {
                request: request_view(x.request, summary.client, None),
                answer: x.answer,
                body: Some(&body),
                filters: Filters::default(),
            };
            let chain = rule.chain();
            let outcome = chain.run(Stage::PreResponse, &mut stage, local).await;
            (outcome, stage.filters)
        };
        let (failure, message) = match verdict(outcome) {
            Ok(()) if filters.is_empty() => return body,
            Ok(()) => match filters.whole(body) {
                Ok(body) => return body,
                Err(_) => (fail::PLUGIN_ERROR, None),
            },
            Err(Why::Failure(failure)) => (failure, None),
            Err(Why::Reply(reply)) => match reply.error {
                Some((code, message)) => (
                    Failure {
                        status: reply.status,
                        ..Failure::from(code)
                    },
                    message,
                ),
                None => {
                    x.answer.reset(reply.status);
                    return reply.body;
                }
            },
        };
        summary.failure(failure, message.as_deref(), x.request, x.answer)
    }
}

/// `/healthz` on a public listener (F161).
pub(super) async fn health<D: Down>(x: &mut Exchange<'_, D>, summary: &mut Summary) -> Outcome {
    const BODY: &[u8] = br#"{"status":"ok"}"#;
    x.answer.reset(200);
    // A constant field in an empty list.
    let _ = x.answer.headers.append("content-type", b"application/json");
    show(summary.shows, x.answer);
    summary.status = 200;
    if x.request.method != Method::Head {
        summary.local_bytes = BODY.len() as u64;
    }
    match x.down.respond(x.answer, Bytes::from_static(BODY)).await {
        Ok(()) => Outcome::Done,
        Err(_) => Outcome::Close,
    }
}
