//! The ground floor: the address plan, machines, links, the ledger and allocation.
//!
//! A /126 is a number painted on a cable, so addressing, links and the ledger are one room and every other
//! room stands on it. Start with [`plan`] (which addresses exist), then [`ledger`] (which were given to whom)
//! and [`allocate`] (who gets what next).
//!
//! *Architecture invariant:* nothing here does I/O, reads a clock or draws a random number. Bytes, time and
//! randomness are arguments; what has to happen comes back as a [`ledger::Change`] for a [`store::Store`].

pub mod allocate;
pub mod block;
pub mod event;
pub mod fault;
pub mod ledger;
pub mod link;
pub mod mac;
pub mod machine;
pub mod plan;
#[cfg(feature = "schema")]
mod schema;
pub mod stage;
pub mod store;
pub mod timeline;

pub use allocate::{Admission, AdmitError, AttachError, Claim};
pub use block::{Block, BlockNumber, LinkPrefix, PortIndex};
pub use event::{Event, EventPage, EventRing, Happening, Moment};
pub use fault::{FaultKind, LinkFault};
pub use ledger::{ApplyError, Change, Ledger};
pub use link::{Far, Link, LinkId};
pub use mac::Mac;
pub use machine::{Machine, MachineId, NodeName, Port, Role, RouterId};
pub use plan::{AddressPlan, Mirror, PlanError};
pub use stage::{LinkStatus, Stage};
pub use store::{MemoryStore, Revision, Store, StoreError};
pub use timeline::{Boot, Heard, Sound, Step, Timeline};
