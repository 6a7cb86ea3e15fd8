//! End-to-end tests: folders under `cases/` that run against `diolkos run` and, unchanged, on a real Kubernetes.
//!
//! A case says which backends exist, which objects are applied in which steps, what requests are answered after each step and
//! which conditions the objects then carry. [`case`] reads the folder, [`runner`] plays it against a [`gateway::Gateway`], of
//! which there are two: [`standalone`] (a child process on a directory of manifests) and [`cluster`] (the API server of the rig).
//! The cases' backends are `echo-backend` processes in both modes. [`disruption`] holds the tests that need more than files: load while something
//! breaks. [`measure`] is what `make bench` needs.

pub mod admission;
mod asked;
pub mod authority;
pub mod backend;
pub mod case;
pub mod check;
pub mod client;
pub mod cluster;
pub mod coding;
pub mod data_planes;
pub mod disruption;
pub mod echo;
pub mod gateway;
mod http2;
pub mod ingress;
pub mod load;
pub mod measure;
pub mod message;
pub mod objects;
pub mod operator;
pub mod peers;
pub mod process;
pub mod rollback;
pub mod runner;
pub mod secrets;
pub mod standalone;
pub mod statuses;
pub mod websocket;
