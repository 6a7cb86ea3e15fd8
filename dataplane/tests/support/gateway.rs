//! A data plane in front of an origin.

use super::config::{base, routes};
use super::plane::Plane;
use super::{Answer, Origin};
use model::{Model, Rule};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

pub struct Gateway {
    pub plane: Plane,
    pub origin: Origin,
}

impl Gateway {
    /// The origin is the Upstream `up`.
    pub fn start(edit: impl FnOnce(&mut Model, SocketAddr)) -> Self {
        let origin = Origin::start();
        let mut model = base(&[origin.address]);
        edit(&mut model, origin.address);
        Self {
            plane: Plane::start(&model),
            origin,
        }
    }

    /// Makes this the configuration.
    pub fn put(&mut self, edit: impl FnOnce(&mut Model, SocketAddr)) {
        let mut model = base(&[self.origin.address]);
        edit(&mut model, self.origin.address);
        self.plane.put(&model).unwrap();
    }
}

impl Deref for Gateway {
    type Target = Plane;

    fn deref(&self) -> &Plane {
        &self.plane
    }
}

impl DerefMut for Gateway {
    fn deref_mut(&mut self) -> &mut Plane {
        &mut self.plane
    }
}

/// A gateway with one Route.
pub fn gateway(rules: Vec<Rule>) -> Gateway {
    Gateway::start(|model, _| routes(model, rules))
}

pub fn error(answer: &Answer) -> (u16, &str) {
    (answer.status, std::str::from_utf8(&answer.body).unwrap())
}
