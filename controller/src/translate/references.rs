//! References to values in Secrets and ConfigMaps.

use super::lowering::Lowering;
use crate::report::Reason;
use crate::world::{Body, Data, ObjectId, ObjectKind, Values};
use crds::refs::{ObjectRef, SecretKeyRef};
use model::Secret;

/// Why values cannot be used: the reason and message of a problem.
pub(super) type Missing = (Reason, String);

impl<'a> Lowering<'a> {
    /// The object that a reference means, when it may be referred to. `kinds`: those that may stand there, the default
    /// first.
    pub(super) fn referred(
        &mut self,
        field: &str,
        reference: &ObjectRef,
        kinds: &[ObjectKind],
    ) -> Option<ObjectId> {
        let kind = match reference.kind.as_deref() {
            None => kinds.first().copied(),
            Some(name) => kinds.iter().copied().find(|kind| kind.name() == name),
        };
        let group = reference.group.as_deref().unwrap_or_default();
        let Some(kind) = kind.filter(|kind| kind.group() == group) else {
            let allowed: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
            let message = format!("must be a {} of the core group", allowed.join(" or "));
            self.error(field, Reason::InvalidKind, message);
            return None;
        };
        let namespace = reference.namespace.as_deref().unwrap_or(&self.id.namespace);
        self.permitted(
            field,
            ObjectId::new(kind, namespace, reference.name.as_str()),
        )
    }

    fn permitted(&mut self, field: &str, id: ObjectId) -> Option<ObjectId> {
        if !self.may_refer(&id) {
            let message = self.world.not_granted(&id);
            self.error(field, Reason::RefNotPermitted, message);
            return None;
        }
        Some(id)
    }

    /// All values of a Secret or ConfigMap.
    pub(super) fn data(&mut self, id: &ObjectId) -> Result<&'a Data, Missing> {
        let body = self.object(id).map(|object| &object.body);
        let unreadable = |why: &str| {
            (
                Reason::RefNotReadable,
                format!("{id} cannot be read: {why}"),
            )
        };
        Err(match body {
            Some(Body::Secret(values) | Body::ConfigMap(values)) => match values {
                Values::Read(data) => return Ok(data),
                Values::Unread { .. } => (Reason::RefPending, format!("{id} is being read")),
                Values::Unreadable(why) => unreadable(why),
            },
            Some(Body::Refused(refusals)) => match refusals.first() {
                Some(refusal) => unreadable(&format!("{}: {}", refusal.field, refusal.message)),
                None => unreadable("it has another form"),
            },
            Some(_) => unreadable("it is of another kind"),
            None => match self.world.not_readable(id) {
                Some(why) => unreadable(&why),
                None => (Reason::RefNotFound, self.world.not_found(id)),
            },
        })
    }

    /// One value of a Secret.
    pub(super) fn secret_value(
        &mut self,
        field: &str,
        reference: &SecretKeyRef,
    ) -> Option<&'a Secret> {
        let namespace = reference.namespace.as_deref().unwrap_or(&self.id.namespace);
        let id = ObjectId::new(ObjectKind::Secret, namespace, reference.name.as_str());
        let id = self.permitted(field, id)?;
        match self.data(&id) {
            Ok(data) => {
                let value = data.get(&reference.key);
                if value.is_none() {
                    let message = format!("{id} has no key {:?}", reference.key.as_str());
                    self.error(format!("{field}.key"), Reason::RefNotFound, message);
                }
                value
            }
            Err((reason, message)) => {
                self.error(field, reason, message);
                None
            }
        }
    }
}
