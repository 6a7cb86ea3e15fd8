//! The control plane: from objects to what data planes serve.
//!
//! The pure half reads objects from anywhere and knows neither sockets nor clocks: [`world`] (a compact index),
//! [`translate`] (world to model, total and deterministic), [`report`] (what is wrong with which object),
//! [`publish`] (one store, one state machine a data plane). [`load`] reads directories, and [`standalone`] runs all of
//! it for `diolkos run DIR`.

pub mod ca;
pub mod leader;
pub mod objects;
pub mod tls;

pub mod publish;
pub mod report;
pub mod translate;
pub mod world;
