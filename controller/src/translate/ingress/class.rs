//! Which Ingresses are ours, and where they attach.

use crate::adapt;
use crate::report::CONTROLLER_NAME;
use crate::world::{
    Body, CLASS_ANNOTATION, ClassParameters, Ingress, IngressClass, Object, ObjectId, ObjectKind,
    World,
};

/// Where an Ingress of ours attaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::translate) enum Place {
    /// The default GatewayConfig.
    Default,
    /// That which its class names.
    Config(ObjectId),
    /// What its class names is no GatewayConfig.
    Unknown(String),
}

/// The class that an Ingress names.
pub(in crate::translate) fn named(ingress: &Ingress) -> Option<&str> {
    let annotated = || ingress.annotations.get(CLASS_ANNOTATION);
    let name = ingress.spec.ingress_class_name.as_ref().or_else(annotated);
    name.map(String::as_str).filter(|name| !name.is_empty())
}

/// `None`: it is not ours.
pub(in crate::translate) fn place(world: &World, ingress: &Ingress) -> Option<Place> {
    match named(ingress) {
        Some(name) => {
            let id = ObjectId::new(ObjectKind::IngressClass, "", name);
            match world.get(&id).map(|object| &object.body) {
                Some(Body::IngressClass(class)) => of(class),
                Some(_) => None,
                // In a directory nobody has to write it.
                None => (name == adapt::CLASS).then_some(Place::Default),
            }
        }
        None => of(default(world)?),
    }
}

/// Why nobody may have to serve an Ingress that names no class; `None`: somebody has to.
pub(in crate::translate) fn unclaimed(world: &World, ingress: &Ingress) -> Option<&'static str> {
    if named(ingress).is_some() || default(world).is_some() {
        return None;
    }
    let mut classes = world.of_kind(ObjectKind::IngressClass);
    let is_default =
        |object: &Object| matches!(&object.body, Body::IngressClass(class) if class.is_default);
    Some(match classes.any(is_default) {
        true => "it names no class, and several controllers have the default one",
        false => "it names no class, and no IngressClass is the default",
    })
}

/// The class of Ingresses that name none. Where others want to be that too, it is nobody's.
fn default(world: &World) -> Option<&IngressClass> {
    let classes = world.of_kind(ObjectKind::IngressClass);
    let mut defaults = classes.filter_map(|object| match &object.body {
        Body::IngressClass(class) => Some(&**class).filter(|class| class.is_default),
        _ => None,
    });
    let first = defaults.next()?;
    defaults
        .all(|other| other.controller == first.controller)
        .then_some(first)
}

fn of(class: &IngressClass) -> Option<Place> {
    if class.controller != CONTROLLER_NAME {
        return None;
    }
    let Some(parameters) = &class.parameters else {
        return Some(Place::Default);
    };
    let ClassParameters {
        group, kind, name, ..
    } = parameters;
    let config = ObjectKind::GatewayConfig;
    let namespace = parameters.namespace.as_deref();
    Some(match namespace {
        Some(namespace) if *group == config.group() && *kind == config.name() => {
            Place::Config(ObjectId::new(config, namespace, &**name))
        }
        _ => Place::Unknown(format!(
            "the parameters of its class must be a GatewayConfig of {} with its namespace, not {kind} {name} of {group:?}",
            config.group()
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn class(name: &str, controller: &str, default: bool, parameters: Value) -> Object {
        let value = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": {"name": name, "annotations": {
                "ingressclass.kubernetes.io/is-default-class": default.to_string(),
            }},
            "spec": {"controller": controller, "parameters": parameters},
        });
        Object::from_json(&value).unwrap().unwrap()
    }

    fn ingress(class: Option<&str>, annotation: Option<&str>) -> Ingress {
        let mut ingress = Ingress::default();
        ingress.spec.ingress_class_name = class.map(str::to_owned);
        let annotation = annotation.map(|a| (CLASS_ANNOTATION.to_owned(), a.to_owned()));
        ingress.annotations = annotation.into_iter().collect();
        ingress
    }

    #[test]
    fn whose_an_ingress_is() {
        let mut world = World::default();
        let at = |world: &World, class, annotation| place(world, &ingress(class, annotation));
        assert_eq!(at(&world, Some("diolkos"), None), Some(Place::Default));
        assert_eq!(at(&world, None, Some("diolkos")), Some(Place::Default));
        assert_eq!(at(&world, Some("nginx"), None), None);
        assert_eq!(at(&world, None, None), None);
        let nobody = |world: &World| unclaimed(world, &ingress(None, None));
        assert!(nobody(&world).unwrap().contains("no IngressClass is"));
        assert_eq!(unclaimed(&world, &ingress(Some("x"), None)), None);
        world.apply(class("diolkos", "example.com/other", false, Value::Null));
        assert_eq!(at(&world, Some("diolkos"), None), None, "it is another's");
        world.apply(class("nginx", CONTROLLER_NAME, true, Value::Null));
        assert_eq!(at(&world, Some("nginx"), None), Some(Place::Default));
        assert_eq!(at(&world, None, None), Some(Place::Default));
        assert_eq!(nobody(&world), None);
        // The field goes before the annotation.
        assert_eq!(at(&world, Some("diolkos"), Some("nginx")), None);
        world.apply(class("other", "example.com/other", true, Value::Null));
        assert_eq!(at(&world, None, None), None, "two want it");
        assert!(nobody(&world).unwrap().contains("several"));
    }

    #[test]
    fn parameters_of_a_class() {
        let mut world = World::default();
        let mut at = |parameters: Value| {
            world.apply(class("a", CONTROLLER_NAME, false, parameters));
            place(&world, &ingress(Some("a"), None)).unwrap()
        };
        let config = json!({"apiGroup": "diolkos.io", "kind": "GatewayConfig", "scope": "Namespace", "namespace": "x", "name": "y"});
        let id = ObjectId::new(ObjectKind::GatewayConfig, "x", "y");
        assert_eq!(at(config), Place::Config(id));
        let other = json!({"apiGroup": "example.com", "kind": "Thing", "name": "y"});
        assert!(matches!(at(other), Place::Unknown(_)));
    }
}
