//! Changes of machines and cables that are there: what the difference between a running mesh and its file comes to.

use anyhow::Context as _;
use hardware::libvirt::{Found, Kind};
use hardware::plan::{Object, Size};
use hardware::{Cable, End, MachineNumber, Plan};
use ignition::{NodeSpec, Taint};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use mesh::NodeName;
use serde_json::{Value, json};

use super::{Machines, cluster};
use crate::deployment::MachineRecord;
use crate::exit::{Code, Failure, OrFail as _};
use crate::image;
use crate::store::crds::Which;

// === impl Machines ===

impl Machines<'_> {
    /// Lays a cable between two ports that have none. `near` is the end towards the seed. It is on record when it is there:
    /// what was interrupted on the way is done again by whoever lays the next one, which has the same number, and what came
    /// to nothing is taken away.
    pub(super) async fn lay(&mut self, near: End, far: End) -> Result<Cable, Failure> {
        let number = self.deployment.next_cable;
        let cable = Cable { number, near, far };
        self.deployment.cables.push(cable);
        if let Err(failure) = self.plug_both(&cable).await {
            if let Err(more) = self.unplug_both(&cable).await {
                tracing::warn!(
                    cable = number,
                    reason = format!("{:#}", more.error),
                    "what there is of a cable stays until the next one"
                );
            }
            self.deployment.cables.retain(|other| other.number != number);
            return Err(failure);
        }
        self.deployment.next_cable = number.saturating_add(1);
        self.save()?;
        Ok(cable)
    }

    async fn plug_both(&self, cable: &Cable) -> Result<(), Failure> {
        let spec = self.spec()?;
        let plan = Plan::new(&spec);
        let network =
            plan.networks().find(|network| network.bridge == spec.owner.deployment.cable_bridge(cable));
        let network =
            network.context("the plan has no network for the cable").or_fail(Code::Software)?.clone();
        self.libvirt.make(&plan, &Object::Network(network)).await.or_fail(Code::Unavailable)?;
        for end in cable.ends() {
            let domain = self.deployment.id.domain(&self.deployment.name_of(end.machine));
            self.libvirt.plug(&domain, &spec.mesh_port(end)).await.or_fail(Code::Unavailable)?;
        }
        Ok(())
    }

    /// Takes a cable away; both its ports are loose then.
    pub(super) async fn take_away(&mut self, cable: &Cable) -> Result<(), Failure> {
        self.unplug_both(cable).await?;
        self.deployment.cables.retain(|other| other.number != cable.number);
        self.save()
    }

    async fn unplug_both(&self, cable: &Cable) -> Result<(), Failure> {
        let spec = self.spec()?;
        let mut without = spec.clone();
        without.cables.retain(|other| other.number != cable.number);
        for end in cable.ends() {
            let domain = self.deployment.id.domain(&self.deployment.name_of(end.machine));
            self.libvirt.plug(&domain, &without.mesh_port(end)).await.or_fail(Code::Unavailable)?;
        }
        let bridge = spec.owner.deployment.cable_bridge(cable);
        for network in Plan::new(&spec).networks().filter(|network| network.bridge == bridge) {
            let found = Found { kind: Kind::Network, name: network.name.clone(), owner: spec.owner.clone() };
            self.libvirt.remove(&found).await.or_fail(Code::Unavailable)?;
        }
        Ok(())
    }

    /// Gives a machine other memory or processors: it has them when it has power the next time. Who calls it saves that.
    pub(super) async fn resize(&mut self, number: MachineNumber, size: Size) -> Result<(), Failure> {
        for machine in self.deployment.machines.iter_mut().filter(|machine| machine.number == number) {
            machine.size = size;
        }
        let plan = self.plan()?;
        for domain in plan.domains().filter(|domain| domain.machine == number) {
            let object = Object::Domain(domain.clone());
            self.libvirt.make(&plan, &object).await.or_fail(Code::Unavailable)?;
        }
        Ok(())
    }

    /// Wants other things of a machine's node: labels and taints it has at once, the rest when its kubelet starts anew. Who
    /// calls it records that.
    pub(super) async fn want(&self, machine: &MachineRecord, wanted: &NodeSpec) -> Result<(), Failure> {
        let cluster = cluster(self.directory()).await?;
        let reservation = image::own::reservation(self.context, &machine.name, wanted)?;
        if !machine.is_seed() {
            let which = Which::Uuid(self.deployment.id.machine_uuid(machine.number));
            cluster.reserve(which, &reservation).await.or_fail(Code::TryAgain)?;
        }
        let nodes: Api<Node> = Api::all(cluster.client().clone());
        change_node(&nodes, &machine.name, &machine.node, wanted).await.or_fail(Code::TryAgain)
    }
}

/// Labels and taints that were wanted and are not any more go, those that are wanted come; all others stay.
async fn change_node(
    nodes: &Api<Node>,
    name: &NodeName,
    before: &NodeSpec,
    wanted: &NodeSpec,
) -> anyhow::Result<()> {
    let node = nodes.get(name.as_str()).await.with_context(|| format!("cannot read the node {name}"))?;
    let patch = node_patch(&node, before, wanted);
    let patched = nodes.patch(name.as_str(), &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.map(drop).with_context(|| format!("cannot change labels and taints of {name}"))
}

/// A merge patch `[RFC 7396]`: lists are replaced whole, and the version keeps another writer's taint from being lost.
fn node_patch(node: &Node, before: &NodeSpec, wanted: &NodeSpec) -> Value {
    let gone = before.labels.keys().filter(|key| !wanted.labels.contains_key(*key));
    let labels = gone
        .map(|key| (key.clone(), Value::Null))
        .chain(wanted.labels.iter().map(|(key, value)| (key.clone(), json!(value))));
    let labels: serde_json::Map<String, Value> = labels.collect();
    let is = |taint: &Taint, key: &str, effect: &str| taint.key == key && taint.effect.to_string() == effect;
    let there = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let others = there.into_iter().filter(|taint| {
        let ours = before.taints.iter().chain(&wanted.taints);
        !ours.into_iter().any(|own| is(own, &taint.key, &taint.effect))
    });
    let own = wanted
        .taints
        .iter()
        .map(|taint| json!({ "key": taint.key, "value": taint.value, "effect": taint.effect.to_string() }));
    let taints: Vec<Value> = others.map(|taint| json!(taint)).chain(own).collect();
    json!({
        "metadata": { "labels": labels, "resourceVersion": node.metadata.resource_version },
        "spec": { "taints": taints },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_wanted_and_is_wanted_changes() {
        let node: Node = serde_json::from_value(json!({
            "metadata": { "name": "a", "resourceVersion": "7", "labels": { "old": "1", "other": "x" } },
            "spec": { "taints": [
                { "key": "node.kubernetes.io/unreachable", "effect": "NoExecute" },
                { "key": "slow", "value": "a", "effect": "NoSchedule" },
            ] },
        }))
        .unwrap();
        let spec = |json: Value| serde_json::from_value::<NodeSpec>(json).unwrap();
        let before = spec(json!({ "labels": { "old": "1" }, "taints": ["slow=a:NoSchedule"] }));
        let wanted = spec(json!({ "labels": { "new": "2" }, "taints": ["slow=b:NoSchedule"] }));
        let expected = json!({
            "metadata": { "labels": { "old": null, "new": "2" }, "resourceVersion": "7" },
            "spec": { "taints": [
                { "key": "node.kubernetes.io/unreachable", "effect": "NoExecute" },
                { "key": "slow", "value": "b", "effect": "NoSchedule" },
            ] },
        });
        assert_eq!(node_patch(&node, &before, &wanted), expected);
    }
}
