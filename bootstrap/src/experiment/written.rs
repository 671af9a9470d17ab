//! An experiment's file, as somebody wrote it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::meshfile::Given;

/// An experiment.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Written {
    /// Its name.
    pub name: Given<String>,
    /// What it is about, on one line.
    pub title: Given<String>,
    /// What it shows, at length.
    pub about: Given<String>,
    /// Names and what they stand for: `${victim}` is replaced in every text below. `--set victim=node3` gives another.
    pub with: Given<BTreeMap<String, Given<String>>>,
    /// What a mesh must have.
    pub needs: Given<Needs>,
    /// What can be asked all the time.
    pub probes: Given<Vec<Given<Probe>>>,
    /// What is done, in order.
    pub steps: Given<Vec<Given<Step>>>,
    /// What must have come of it.
    pub expect: Given<Vec<Given<Expectation>>>,
}

/// What a mesh must have.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Needs {
    /// Machines, the seed among them.
    pub machines: Given<u16>,
    /// Control planes.
    pub control_planes: Given<u16>,
}

/// Something that is asked again and again, from a step on that begins it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Probe {
    /// Its name.
    pub name: Given<String>,
    /// The URL. `${address:NODE}` is a node's address, `${service:NAMESPACE/NAME}` a service's.
    pub http: Given<String>,
    /// From where: `host`, this computer, or a node.
    pub from: Given<String>,
    /// How often, as `500ms`.
    pub every: Given<String>,
    /// How long an answer may take, as `1s`.
    pub timeout: Given<String>,
}

/// Something to do: one of `fault`, `taint`, `undo`, `create`, `wait`, `sleep` and `probe`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Step {
    /// The moment that it is done is known by this name.
    pub name: Given<String>,
    /// The words of `meshboot fault`: `link cut node1-node3`.
    pub fault: Given<String>,
    /// A node and a taint that it is given, as `node1 dedicated=db:NoSchedule`.
    pub taint: Given<String>,
    /// The name of the step whose fault or taint is undone.
    pub undo: Given<String>,
    /// An object of Kubernetes, or a list of them. They are removed at the end.
    pub create: Given<Value>,
    /// What is waited for.
    pub wait: Given<Condition>,
    /// For how long, as `2m`.
    pub within: Given<String>,
    /// How much time passes, as `10s`.
    pub sleep: Given<String>,
    /// The name of the probe that begins.
    pub probe: Given<String>,
}

/// What is waited for: one of `node`, `pods`, `object`, `api`, `http`, `route-to` and `probe`, with the fields that belong to it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Condition {
    /// A node.
    pub node: Given<String>,
    /// With `node`: `Ready` or `NotReady`.
    pub is: Given<String>,
    /// Labels of pods, as `app=web`.
    pub pods: Given<String>,
    /// With `pods`: how many are to run and be ready, at least; 1.
    pub running: Given<u16>,
    /// With `pods`: on this node. With `route-to`: the node that has it.
    pub on: Given<String>,
    /// With `pods`: on any node but this.
    pub not_on: Given<String>,
    /// An object, as `deployment/web`.
    pub object: Given<String>,
    /// With `pods` or `object`: its namespace; `default`.
    pub namespace: Given<String>,
    /// With `object`: a place in it, as kubectl has it: `{.status.readyReplicas}`.
    pub field: Given<String>,
    /// With `object`: what is to be there, as a text.
    pub equals: Given<String>,
    /// With `object`: a part of what is to be there.
    pub contains: Given<String>,
    /// The API server: `answers` or `silent`.
    pub api: Given<String>,
    /// A URL, as a probe has it.
    pub http: Given<String>,
    /// With `http`: from where, `host` or a node.
    pub from: Given<String>,
    /// With `http`: whether it is to be answered with success; true.
    pub answers: Given<bool>,
    /// An address, or `${address:NODE}`.
    pub route_to: Given<String>,
    /// With `route-to`: whether there is to be one; true.
    pub present: Given<bool>,
    /// A probe that began before.
    pub probe: Given<String>,
    /// With `probe`: for how long each of its questions was answered, as `10s`.
    pub answered_for: Given<String>,
}

/// What must have come of it: `from` and `to`, or `probe`, and a bound.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Expectation {
    /// What, in a few words.
    pub text: Given<String>,
    /// The step at which a time begins.
    pub from: Given<String>,
    /// The step at which it ends.
    pub to: Given<String>,
    /// A probe, whose longest time without an answer or whose share of answers is measured.
    pub probe: Given<String>,
    /// At most so much: `10s`, or `5%` of the questions answered.
    pub at_most: Given<String>,
    /// At least so much: `10s`, or `95%` of the questions answered.
    pub at_least: Given<String>,
}
