//! What the tests share: network namespaces, routing daemons, probes, and clients that do what they are told.

#![allow(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::print_stderr,
    reason = "a test that cannot go on says where, and what it saw"
)]

pub mod advertise;
pub mod answers;
pub mod book;
pub mod debian;
pub mod firmware;
pub mod frr;
pub mod garbage;
pub mod http;
pub mod netlink;
pub mod netns;
pub mod probe;
pub mod tftp;
pub mod uefi;
