//! The contract between a plugin and the chain.

use crate::{Edits, Exchange};
use bytes::Bytes;
use model::Stage;
use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A compiled plugin. It is shared by all requests, so it keeps no state of one.
///
/// Each stage defaults to doing nothing; only the stages named by [`Plugin::needs`] are called.
pub trait Plugin: Send + Sync + 'static {
    /// Read once, when the chain is compiled.
    fn needs(&self) -> Needs;

    fn pre_request<'a>(&'a self, _: &Exchange<'a>, _: &mut Edits) -> Verdict<'a> {
        Verdict::CONTINUE
    }

    fn post_request<'a>(&'a self, _: &Exchange<'a>, _: &mut Edits) -> Verdict<'a> {
        Verdict::CONTINUE
    }

    fn pre_response<'a>(&'a self, _: &Exchange<'a>, _: &mut Edits) -> Verdict<'a> {
        Verdict::CONTINUE
    }

    /// After the last byte; it can no longer change anything.
    fn post_response(&self, _: &Exchange<'_>) {}

    /// A filter for one body of one exchange; asked for when [`Needs`] says [`BodyMode::Stream`].
    fn body_filter(&self, _: Side) -> Option<Box<dyn BodyFilter>> {
        None
    }
}

/// Which of the two bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Request,
    Response,
}

/// Sees the chunks of one body as they pass.
pub trait BodyFilter: Send {
    /// Takes a chunk and gives what goes on instead; empty is allowed.
    ///
    /// # Errors
    /// A [`Failure`] aborts the exchange.
    fn chunk(&mut self, data: Bytes) -> Result<Bytes, Failure>;

    /// The sender pauses: gives what is held back and can be sent now, so that a slow stream arrives as it is made.
    ///
    /// # Errors
    /// A [`Failure`] aborts the exchange.
    fn flush(&mut self) -> Result<Bytes, Failure> {
        Ok(Bytes::new())
    }

    /// After the last chunk; what it gives is appended.
    ///
    /// # Errors
    /// A [`Failure`] aborts the exchange.
    fn end(&mut self) -> Result<Bytes, Failure> {
        Ok(Bytes::new())
    }
}

/// How a plugin wants a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyMode {
    /// Bytes go straight through.
    #[default]
    None,
    /// Chunk by chunk, through [`Plugin::body_filter`].
    Stream,
    /// As a whole, up to so many bytes, before the stage runs.
    Buffer(u64),
}

/// The stages that a plugin type takes part in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages(u8);

impl Stages {
    pub const fn of(stages: &[Stage]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < stages.len() {
            bits |= 1 << stages[i] as u8;
            i += 1;
        }
        Self(bits)
    }

    pub const fn has(self, stage: Stage) -> bool {
        self.0 & (1 << stage as u8) != 0
    }
}

/// What a plugin declares once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs {
    /// Where it runs unless the object says otherwise; an object may restrict it to one of these.
    pub stages: Stages,
    pub request_body: BodyMode,
    pub response_body: BodyMode,
    /// Asks for [`crate::RequestView::accepts`].
    pub codings: bool,
}

/// What a plugin decided.
#[derive(Debug)]
pub enum Flow {
    Continue,
    /// The gateway answers this at once (F16).
    Respond(Box<LocalReply>),
}

/// The result of one stage. A synchronous plugin answers [`Verdict::Ready`] and allocates nothing.
pub enum Verdict<'a> {
    Ready(Result<Flow, Failure>),
    /// An answer that has to wait for something; it brings its edits with it.
    Pending(Later<'a>),
}

/// A verdict on its way, with the edits that come with it.
pub type Later<'a> = Pin<Box<dyn Future<Output = (Edits, Result<Flow, Failure>)> + Send + 'a>>;

impl Verdict<'_> {
    pub const CONTINUE: Self = Verdict::Ready(Ok(Flow::Continue));

    pub fn respond(reply: LocalReply) -> Self {
        Verdict::Ready(Ok(Flow::Respond(Box::new(reply))))
    }
}

/// The plugin itself went wrong; the failure policy decides what that means.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub Cow<'static, str>);

/// Entries of the error catalogue (features.md section 5) that plugins answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    InvalidRequest,
    MissingRequiredHeader,
    Forbidden,
    ContentFilter,
    RequestTooLarge,
}

/// An answer that the gateway gives itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReply {
    pub status: u16,
    /// With an optional message; `None`: `body` is sent as it is.
    pub error: Option<(ErrorCode, Option<String>)>,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    /// The answer waits for so long.
    pub delay: Duration,
}

impl LocalReply {
    /// An answer with a body of its own.
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            error: None,
            headers: Vec::new(),
            body: body.into(),
            delay: Duration::ZERO,
        }
    }

    /// An answer from the error catalogue.
    pub fn error(status: u16, code: ErrorCode, message: Option<String>) -> Self {
        Self {
            error: Some((code, message)),
            ..Self::new(status, Bytes::new())
        }
    }
}

/// Settings that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct InvalidSettings {
    /// Path below the settings block, such as `deny[0].pattern`; empty for the block itself.
    pub field: String,
    pub message: String,
}

impl InvalidSettings {
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}

/// From settings to the plugin that runs.
pub trait Compile: serde::de::DeserializeOwned {
    type Ready: Plugin;

    /// # Errors
    /// [`InvalidSettings`] with the field that is wrong.
    fn compile(self) -> Result<Self::Ready, InvalidSettings>;
}

pub(crate) fn from_json<T: Compile>(settings: &str) -> Result<Arc<dyn Plugin>, InvalidSettings> {
    let settings: T =
        serde_json::from_str(settings).map_err(|e| InvalidSettings::new("", e.to_string()))?;
    Ok(Arc::new(settings.compile()?))
}
