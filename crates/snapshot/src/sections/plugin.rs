use super::{InvalidResource, Kind, Section, origin_from_wire, origin_to_wire};
use crate::pb;
use model::{FailurePolicy, Plugin, Stage};

impl Section for Plugin {
    const KIND: Kind = Kind::Plugin;
    type Wire = pb::Plugin;

    fn to_wire(&self) -> pb::Plugin {
        let Self {
            origin,
            name,
            kind,
            stage,
            priority,
            parallel,
            failure_policy,
            run_on_local_reply,
            settings,
        } = self;
        pb::Plugin {
            origin: origin_to_wire(origin),
            name: name.clone(),
            r#type: kind.clone(),
            stage: match stage {
                None => pb::plugin::Stage::Natural,
                Some(Stage::PreRequest) => pb::plugin::Stage::PreRequest,
                Some(Stage::PostRequest) => pb::plugin::Stage::PostRequest,
                Some(Stage::PreResponse) => pb::plugin::Stage::PreResponse,
                Some(Stage::PostResponse) => pb::plugin::Stage::PostResponse,
            }
            .into(),
            priority: *priority,
            parallel: *parallel,
            ignore_failure: *failure_policy == FailurePolicy::Ignore,
            run_on_local_reply: *run_on_local_reply,
            settings: settings.clone(),
        }
    }

    fn from_wire(w: pb::Plugin) -> Result<Self, InvalidResource> {
        let stage = match pb::plugin::Stage::try_from(w.stage) {
            Ok(pb::plugin::Stage::Natural) => None,
            Ok(pb::plugin::Stage::PreRequest) => Some(Stage::PreRequest),
            Ok(pb::plugin::Stage::PostRequest) => Some(Stage::PostRequest),
            Ok(pb::plugin::Stage::PreResponse) => Some(Stage::PreResponse),
            Ok(pb::plugin::Stage::PostResponse) => Some(Stage::PostResponse),
            Err(_) => {
                return Err(InvalidResource::new(
                    "stage",
                    "is unknown to this data plane",
                ));
            }
        };
        Ok(Self {
            origin: origin_from_wire(w.origin)?,
            name: w.name,
            kind: w.r#type,
            stage,
            priority: w.priority,
            parallel: w.parallel,
            failure_policy: if w.ignore_failure {
                FailurePolicy::Ignore
            } else {
                FailurePolicy::Fail
            },
            run_on_local_reply: w.run_on_local_reply,
            settings: w.settings,
        })
    }
}
