//! libvirt's XML, typed: every text is escaped by the serializer, none is pasted into a template.

use std::fmt::Write as _;

use quick_xml::se::Serializer;
use serde::Serialize;

use crate::owned::{DeploymentId, NAMESPACE, Owner};

mod domain;
mod network;
mod occupied;

pub use domain::{domain, port};
pub use network::network;
pub use occupied::occupied;

#[derive(Serialize)]
struct Metadata<'a> {
    #[serde(rename = "meshboot:owner")]
    owner: OwnerElement<'a>,
}

#[derive(Serialize)]
struct OwnerElement<'a> {
    #[serde(rename = "@xmlns:meshboot")]
    namespace: &'static str,
    #[serde(rename = "@deployment")]
    deployment: DeploymentId,
    #[serde(rename = "@directory")]
    directory: &'a str,
}

// === impl Metadata ===

impl<'a> Metadata<'a> {
    fn new(owner: &'a Owner) -> Self {
        Self {
            owner: OwnerElement {
                namespace: NAMESPACE,
                deployment: owner.deployment,
                directory: &owner.directory,
            },
        }
    }
}

/// `root` as a document of its own, indented.
fn document(root: &impl Serialize) -> String {
    let mut text = String::new();
    let mut serializer = Serializer::new(&mut text);
    serializer.indent(' ', 2);
    root.serialize(serializer).expect("these types hold only what XML can hold");
    writeln!(text).expect("a String takes any text");
    text
}

#[cfg(test)]
mod tests;
