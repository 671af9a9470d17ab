//! Machines: what a machine must bring along, and the driver that makes virtual ones with libvirt.
//!
//! A deployment is a list of libvirt objects, made by a pure function ([`plan`]) of how many machines there
//! are and which cables join them ([`topology`]), and rendered by typed XML ([`xml`]). [`libvirt`] makes the
//! objects in the list's order and removes them in the opposite order.
//!
//! *Architecture invariants:* only [`process`] starts a process, always with a limit. Every object that is
//! made carries its owner ([`owned`]), and nothing is removed that does not. What the machines boot and what
//! runs on them is none of this room's business.

pub mod accel;
pub mod daemon;
pub mod firmware;
pub mod host;
pub mod libvirt;
pub mod nvram;
pub mod owned;
pub mod plan;
pub mod process;
pub mod profile;
pub mod topology;
pub mod traffic;
pub mod virsh;
pub mod xml;

pub use accel::Accel;
pub use libvirt::Libvirt;
pub use owned::{DeploymentId, Owner};
pub use plan::{MachineSpec, Plan, Spec};
pub use topology::{Cable, End, MachineNumber, Shape};
pub use virsh::Virsh;
