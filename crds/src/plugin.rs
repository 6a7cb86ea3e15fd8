//! Plugin: one check or change that requests and answers go through.
//!
//! The union of types is made from one list, the types that this release can run, so that the API server
//! refuses the others by name instead of storing what would have no effect.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    refs::ObjectRef,
    schema::{cel, drop_inner_descriptions},
    status::Status,
    text::{Cel, Label},
};

macro_rules! plugin_types {
    ($($(#[$doc:meta])* $type:ident => $field:ident, $block:literal;)*) => {
        /// The types of plugin that this release can run.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum PluginType {
            #[default]
            $($type,)*
        }

        impl PluginType {
            /// All types.
            pub const ALL: &[Self] = &[$(Self::$type),*];

            /// The name as it stands in `type`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$type => stringify!($type),)*
                }
            }

            /// The name of the block with the settings of this type.
            pub fn block(self) -> &'static str {
                match self {
                    $(Self::$type => $block,)*
                }
            }
        }

        /// What a Plugin does and when.
        #[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[kube(
            group = "diolkos.io",
            version = "v1alpha1",
            kind = "Plugin",
            plural = "plugins",
            namespaced,
            status = "Status",
            derive = "PartialEq",
            derive = "Default",
            shortname = "plug",
            category = "diolkos",
            selectable = ".spec.type",
            doc = "A Plugin is one check or change that requests and answers go through.",
            printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
            printcolumn(name = "Stage", type_ = "string", json_path = ".spec.stage"),
            printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority"),
            printcolumn(name = "Accepted", type_ = "string", json_path = ".status.conditions[?(@.type==\"Accepted\")].status"),
            printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
            printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", priority = 1),
            printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
        )]
        #[serde(rename_all = "camelCase")]
        #[schemars(extend("x-kubernetes-validations" = cel(BLOCK_FITS_TYPE)))]
        pub struct PluginSpec {
            /// What the plugin does. The block of the same name, in camelCase, holds its settings.
            #[serde(rename = "type")]
            pub type_: PluginType,
            $($(#[$doc])* #[serde(rename = $block, skip_serializing_if = "Option::is_none")] pub $field: Option<plugins::$type>,)*
            /// When it runs: PreRequest, PostRequest, PreResponse or PostResponse. Default: depends on the type.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub stage: Option<Stage>,
            /// Order within the stage; lower runs first, equal ones in the order of the list. Default: 100. -1000000 to 1000000.
            #[serde(skip_serializing_if = "Option::is_none")]
            #[schemars(range(min = -1_000_000, max = 1_000_000))]
            pub priority: Option<i32>,
            /// May run at the same time as others of its stage and priority, if they all say so. Default: false.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub parallel: Option<bool>,
            /// Whether the plugin runs. Default: true.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub enabled: Option<bool>,
            /// What happens when the plugin itself fails: Fail (the request is answered with 500) or Ignore. Default: Fail.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub failure_policy: Option<FailurePolicy>,
            /// Run also on answers that the gateway gives itself, in the response stages. Default: false.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub run_on_local_reply: Option<bool>,
            /// CEL: the plugin runs only for requests for which this is true. Default: all.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub when: Option<Cel>,
        }

        /// A plugin where it is used: `ref`, or a name and what a Plugin's spec holds.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase")]
        #[schemars(
            extend("x-kubernetes-validations" = cel(USE_SHAPE)),
            transform = drop_inner_descriptions
        )]
        pub struct PluginUse {
            /// A Plugin object. Beside it only enabled may stand.
            #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
            pub reference: Option<ObjectRef>,
            /// Name of an inline plugin, unique in its list.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub name: Option<Label>,
            /// What an inline plugin does; see Plugin for all its fields.
            #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
            pub type_: Option<PluginType>,
            $($(#[$doc])* #[serde(rename = $block, skip_serializing_if = "Option::is_none")] pub $field: Option<plugins::$type>,)*
            /// When it runs; see Plugin.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub stage: Option<Stage>,
            /// Order within the stage, lower first. Default: 100. -1000000 to 1000000.
            #[serde(skip_serializing_if = "Option::is_none")]
            #[schemars(range(min = -1_000_000, max = 1_000_000))]
            pub priority: Option<i32>,
            /// May run beside others of its stage and priority. Default: false.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub parallel: Option<bool>,
            /// Whether the plugin runs. Default: true.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub enabled: Option<bool>,
            /// What happens when it fails itself: Fail or Ignore. Default: Fail.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub failure_policy: Option<FailurePolicy>,
            /// Run also on answers of the gateway itself. Default: false.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub run_on_local_reply: Option<bool>,
            /// CEL: requests for which it runs. Default: all.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub when: Option<Cel>,
        }

        impl PluginUse {
            /// The Plugin that is written here, or nothing when an object is referred to.
            pub fn inline(&self) -> Option<PluginSpec> {
                Some(PluginSpec {
                    type_: self.type_?,
                    $($field: self.$field.clone(),)*
                    stage: self.stage,
                    priority: self.priority,
                    parallel: self.parallel,
                    enabled: self.enabled,
                    failure_policy: self.failure_policy,
                    run_on_local_reply: self.run_on_local_reply,
                    when: self.when.clone(),
                })
            }
        }

        impl PluginSpec {
            /// The settings of the plugin's own type as JSON: what `plugins::compile` reads.
            ///
            /// # Errors
            /// When a value has no form in JSON, which no value read from JSON has.
            pub fn settings(&self) -> Result<String, serde_json::Error> {
                match self.type_ {
                    $(PluginType::$type => serde_json::to_string(&self.$field.clone().unwrap_or_default()),)*
                }
            }
        }

        const BLOCK_FITS_TYPE: &[(&str, &str)] = &[$((
            concat!("(self.type == '", stringify!($type), "') == has(self.", $block, ")"),
            concat!($block, " must be given when type is ", stringify!($type), ", and only then"),
        ),)*];

        const USE_SHAPE: &[(&str, &str)] = &[
            ("has(self.ref) != has(self.type)", "give either ref or type (with name and the block of that type)"),
            ("has(self.type) == has(self.name)", "name must be given beside type, and only there"),
            (
                "!has(self.ref) || !(has(self.stage) || has(self.priority) || has(self.parallel) || has(self.failurePolicy) || has(self.runOnLocalReply) || has(self.when))",
                "beside ref only enabled may stand: the rest is the Plugin's own",
            ),
            $((
                concat!("(has(self.type) && self.type == '", stringify!($type), "') == has(self.", $block, ")"),
                concat!($block, " must be given when type is ", stringify!($type), ", and only then"),
            ),)*
        ];
    };
}

plugin_types! {
    /// Settings of type IPAccess: lets clients in by their address.
    IPAccess => ip_access, "ipAccess";
    /// Settings of type UARestriction: lets clients in by their User-Agent.
    UARestriction => ua_restriction, "uaRestriction";
    /// Settings of type RefererRestriction: lets requests in by the site that they come from.
    RefererRestriction => referer_restriction, "refererRestriction";
    /// Settings of type CORS: tells browsers which other sites may read answers.
    CORS => cors, "cors";
    /// Settings of type RequestID: gives each request an identifier.
    RequestID => request_id, "requestID";
    /// Settings of type RequestValidation: refuses incomplete requests.
    RequestValidation => request_validation, "requestValidation";
    /// Settings of type ContentValidation: judges bodies.
    ContentValidation => content_validation, "contentValidation";
    /// Settings of type Redirect: sends clients elsewhere.
    Redirect => redirect, "redirect";
    /// Settings of type Ping: answers a health path.
    Ping => ping, "ping";
    /// Settings of type Mock: answers instead of a backend.
    Mock => mock, "mock";
    /// Settings of type AcceptEncoding: says which codings upstreams may use.
    AcceptEncoding => accept_encoding, "acceptEncoding";
    /// Settings of type ResponseHeaders: edits what goes out.
    ResponseHeaders => response_headers, "responseHeaders";
    /// Settings of type Compression: compresses answers.
    Compression => compression, "compression";
}

/// When a plugin runs.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Stage {
    PreRequest,
    PostRequest,
    PreResponse,
    PostResponse,
}

/// What happens when something that the request depends on fails itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum FailurePolicy {
    Fail,
    Ignore,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_union_is_the_list_of_plugins_that_exist() {
        let types: Vec<_> = PluginType::ALL
            .iter()
            .map(|t| (t.name(), Some(t.block())))
            .collect();
        let exist: Vec<_> = plugins::TYPES
            .iter()
            .map(|name| (*name, plugins::block_of(name)))
            .collect();
        assert_eq!(types, exist);
    }

    #[test]
    fn settings_are_the_block_of_the_type() {
        let spec: PluginSpec = serde_json::from_value(serde_json::json!({
            "type": "Mock", "mock": { "status": 201 },
        }))
        .unwrap();
        assert_eq!(spec.settings().unwrap(), r#"{"status":201}"#);
        assert!(plugins::compile(spec.type_.name(), &spec.settings().unwrap()).is_ok());
    }
}
