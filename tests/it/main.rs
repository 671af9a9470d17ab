//! Fast tests.

#![allow(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::print_stderr,
    reason = "a test that cannot go on says where, and what it saw"
)]

mod anycast;
mod cli;
mod conformance;
mod control_planes;
mod docs;
mod fault;
mod floor_plan;
mod ignition;
mod initrd;
mod join;
mod libvirt;
mod netboot;
mod registry;
mod routing;
mod store;
mod timeline;
