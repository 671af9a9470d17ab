//! Wire formats: parse and emit, nothing else.

pub mod describe;
pub mod dhcp6;
pub mod frame;
pub mod heard;
pub mod icmp6;
pub mod tftp;
pub mod walk;
