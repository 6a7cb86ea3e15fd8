//! The data plane.

pub mod engine;
pub mod h1;
