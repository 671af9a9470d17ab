//! Faults: what each does, and that it is gone again when it is undone.
//!
//! Frames in network namespaces, what a node does to itself in a root of its own, and all else with two blank virtual
//! machines and the real binary. What takes a running cluster is in `e2e/`.

mod experiment;
mod inside;
mod machines;
mod traffic;
