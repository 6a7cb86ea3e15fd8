//! What the tests of faults under load are made of.

use super::support;

pub mod backend;
pub mod backend_h2;
pub mod load;
pub mod message;
pub mod process;
pub mod rig;
pub mod tally;
