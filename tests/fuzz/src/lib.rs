//! What holds whatever comes in: for each way into the netboot servers one function that takes any octets, drives the
//! real code with them, and panics where a promise is broken.
//!
//! libFuzzer calls these functions to look for octets that break one (`cargo xtask fuzz`), and an ordinary test calls
//! them with every file of `corpus/`, so that what was found once stays found. Octets are read as a script of steps by
//! [`Input`]; there are none that it cannot read.
//!
//! *Architecture invariant:* a function gives the same result for the same octets, or what was found could not be found
//! again. So the time is counted and not read, and what is random comes out of the octets.

#![allow(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    reason = "a promise that is broken is told by a panic"
)]

mod dhcp6;
mod http;
mod ignition;
mod input;
mod link;
mod place;
mod tftp;
mod wire;

pub use input::Input;

/// One way in.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// Drives it, and panics where a promise is broken.
    pub run: fn(&[u8]),
}

/// Every way in.
pub const TARGETS: [Target; 5] = [
    Target { name: "dhcp6", run: dhcp6::run },
    Target { name: "link", run: link::run },
    Target { name: "tftp", run: tftp::run },
    Target { name: "http", run: http::run },
    Target { name: "ignition", run: ignition::run },
];
