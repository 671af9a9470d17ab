//! Netboot over IPv6 on one cable, pure: router advertisements, DHCPv6, TFTP, and which file a machine boots.
//!
//! Each protocol is a state machine with the same four verbs: `handle_datagram` and `handle_timeout` take
//! bytes and the time, `poll_effect` hands back what shall happen, in order, and `next_deadline` says when it
//! wants to be called again. What fails outside comes back in as one more input
//! ([`dhcp6::Server::handle_commit_failed`]).
//!
//! *Architecture invariant:* nothing here does I/O, reads a clock or draws a random number, and no packet can
//! make it panic. An address is not sent before the change that gives it was committed.
//!
//! Start with [`effect`], then [`ra`], [`dhcp6`] and [`tftp`]; [`judge`] says whether a link is to be served at all, and
//! [`wire`] holds the formats.

pub mod arch;
pub mod boot;
pub mod dhcp6;
pub mod effect;
pub mod judge;
pub mod ra;
pub mod rate;
pub mod services;
#[cfg(test)]
mod testing;
pub mod tftp;
pub mod timers;
pub mod wire;

pub use arch::{Arch, Firmware};
pub use boot::{Catalogue, FileName, HttpBoot};
pub use effect::{Effect, Event, Peer};
pub use services::{DomainName, DomainNameError, Services, ServicesError};
