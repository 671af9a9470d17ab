//! What the tests share: network namespaces, routing daemons, probes.

#![allow(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::print_stderr,
    reason = "a test that cannot go on says where, and what it saw"
)]

pub mod advertise;
pub mod frr;
pub mod netlink;
pub mod netns;
pub mod probe;
