//! What happened in a mesh, from every witness, in one order: the vocabulary of `meshboot timeline`.
//!
//! [`journal`] holds what the operator did, faults first of all.

pub mod journal;
