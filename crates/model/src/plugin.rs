//! A plugin as an object asks for it; what the types do is in the crate `plugins`.

use crate::ObjectRef;

/// Where in the pipeline a plugin runs (features.md section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum Stage {
    /// Before an upstream is chosen.
    PreRequest,
    /// When the upstream's head has arrived.
    PostRequest,
    /// On head and body on their way to the client.
    PreResponse,
    /// After the last byte.
    PostResponse,
}

/// What a failure of the plugin itself does to the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum FailurePolicy {
    /// 500 `plugin_error`.
    Fail,
    /// The request goes on as if the plugin were not there.
    Ignore,
}

/// One configured plugin.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plugin {
    /// The Plugin object, or the object that holds it inline.
    pub origin: ObjectRef,
    /// Name of the Plugin object or of the inline entry.
    pub name: String,
    /// Type name, such as `RequestValidation`.
    pub kind: String,
    /// `None`: the natural stages of the type.
    pub stage: Option<Stage>,
    /// Lower runs first.
    pub priority: i32,
    pub parallel: bool,
    pub failure_policy: FailurePolicy,
    /// Response stages run on answers that the gateway gives itself (F16).
    pub run_on_local_reply: bool,
    /// The settings block as JSON, as `plugins::compile` reads it.
    pub settings: String,
}

/// How a rule names a plugin.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PluginUse {
    /// Key of a plugin resource.
    Ref(String),
    Inline(Box<Plugin>),
}
