//! Tests in virtual machines: the product itself, through real firmware. They take minutes and need libvirt, so they
//! are ignored unless asked for: `cargo xtask vm`.

#![allow(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::print_stderr,
    reason = "a test that cannot go on says where, and what it saw"
)]

mod book;
mod control_planes;
mod docs;
mod experiments;
mod faults;
mod grid;
mod inside;
mod line;
mod mesh;
mod nodes;
mod pods;
mod whole;
