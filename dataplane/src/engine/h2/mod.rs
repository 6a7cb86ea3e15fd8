//! A client's side over HTTP/2: the `h2` crate below the same service that HTTP/1 connections feed.
//!
//! [`conn`] accepts streams and ends connections, [`down`] is one stream, [`head`] is the edge gate for its fields,
//! [`watch`] stops floods of frames.

pub(super) mod conn;
mod down;
pub(super) mod head;
mod watch;

pub use down::H2Down;
pub(super) use watch::PREFACE;
