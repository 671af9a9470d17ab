//! The top floor: the command line, settings, and the roles composed of the rooms below. Start with [`verbs`] for what an
//! operator does, and with [`gateway`] for the service that runs on every seed and node.

pub mod answers;
pub mod anycast;
pub mod cli;
pub mod control_plane;
pub mod deploy;
pub mod deployment;
pub mod deps;
pub mod exit;
pub mod experiment;
pub mod explain;
pub mod fault;
pub mod gateway;
pub mod image;
pub mod join;
pub mod kubelet;
pub mod list;
pub mod manual;
pub mod meshfile;
pub mod node;
pub mod pki;
pub mod private_file;
pub mod profile;
pub mod progress;
pub mod settings;
mod signals;
pub mod snapshot;
pub mod ssh;
pub mod state;
pub mod status;
pub mod store;
pub mod teardown;
pub mod telemetry;
pub mod timeline;
pub mod verbs;
pub mod weigh;
pub mod why;
