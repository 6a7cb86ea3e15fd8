//! Answers that a plugin judges as a whole.

use super::Proxy;
use super::end::{End, instead};
use super::exchange::{ResponseStage, request_view};
use super::fail;
use super::forward::Request;
use super::held::Collected;
use super::tap::verdict;
use crate::engine::{Down, DownExt, Framing, Method, Progress};
use model::Stage;
use plugins::Filters;

impl Proxy {
    /// `pre_response` on a whole answer, which is sent if it passes.
    pub(super) async fn judge<D: Down>(
        &self,
        down: &mut D,
        request: &Request<'_>,
        collected: Collected,
        progress: &mut Progress,
    ) -> End {
        // Nothing of it has been sent.
        progress.response_bytes = 0;
        let Collected {
            head: Some(mut head),
            body,
            trailers,
            ..
        } = collected
        else {
            return instead(fail::INTERNAL_ERROR);
        };
        let mut body = body.freeze();
        let (outcome, mut filters) = {
            let mut reader = ResponseStage {
                request: request_view(request.head, request.client, None),
                answer: &mut head,
                body: Some(&body),
                filters: Filters::default(),
            };
            let chain = request.rule.chain();
            let outcome = chain.run(Stage::PreResponse, &mut reader, false).await;
            (outcome, reader.filters)
        };
        if let Err(why) = verdict(outcome) {
            return End::Instead(why);
        }
        if !filters.is_empty() {
            // Of another length than was announced.
            if head.framing != Framing::Empty {
                head.framing = Framing::Chunked;
            }
            match filters.whole(body) {
                Ok(filtered) => body = filtered,
                Err(_) => return instead(fail::PLUGIN_ERROR),
            }
        }
        let bodiless = request.head.method == Method::Head || matches!(head.status, 204 | 304);
        if !bodiless && trailers.is_none() {
            head.framing = Framing::Length(body.len() as u64);
        }
        down.send_head(&head);
        progress.response_bytes = match bodiless {
            true => 0,
            false => body.len() as u64,
        };
        let sent = down
            .send_body(body)
            .and_then(|()| down.send_end(trailers.as_ref()));
        match (sent, down.flush().await) {
            (Ok(()), Ok(())) => End::Done,
            (Err(_), _) => End::Cut(fail::INTERNAL_ERROR),
            (_, Err(_)) => End::Gone,
        }
    }
}
