//! Certificates of the push channel: who may be a controller and who a data plane.
//!
//! [`authority`] makes and judges certificates, [`keeper`] keeps them in Secrets and the server's TLS settings current.

pub mod authority;
pub mod keeper;
