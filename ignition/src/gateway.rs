//! The machine's own meshboot gateway: what makes it a relay for the next one.
//!
//! It runs as root with three capabilities and no way to more. Root, because the kubelet's client certificate and
//! the files under `/etc/kubernetes` are root's with mode 0600, and their owner needs no capability to read them;
//! a user of its own would need CAP_DAC_READ_SEARCH, which opens every file of the machine.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::template::fill;
use crate::tree::{PRIVATE, PUBLIC, Tree};
use crate::{NodePlan, RoleDetail};

const UNIT: &str = include_str!("templates/units/meshboot-gateway.service");
const SLICE: &str = include_str!("templates/units/meshboot.slice");
const STORE_UNIT: &str = include_str!("templates/units/run-meshboot-store.mount");

/// Where the gateway finds its settings.
pub const SETTINGS: &str = "/etc/meshboot/gateway.json";

/// Where a seed has the artefacts and images that its disk came with: read-only, and mounted before the gateway starts,
/// which may not mount anything.
pub const STORE: &str = "/run/meshboot/store";

/// Writes the gateway's unit and settings.
pub fn write(tree: &mut Tree, plan: &NodePlan) {
    let settings = in_order(plan.gateway_settings.expose());
    tree.file(SETTINGS, PRIVATE, format!("{settings:#}\n"));
    let anycast = plan.site.plan.anycast.to_string();
    let mounts = match &plan.detail {
        RoleDetail::Seed { .. } => {
            tree.unit("run-meshboot-store.mount", fill(STORE_UNIT, &[("store", STORE)]));
            format!("RequiresMountsFor={STORE}")
        }
        RoleDetail::Node { .. } => String::new(),
    };
    let values = [("settings", SETTINGS), ("anycast", &*anycast), ("mounts", &*mounts)];
    tree.unit("meshboot-gateway.service", fill(UNIT, &values));
    tree.file("/etc/systemd/system/meshboot.slice", PUBLIC, SLICE.to_owned());
}

/// The same value with its keys in order, whatever order serde_json was built to keep: equal plans give equal bytes.
pub(crate) fn in_order(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> =
                map.iter().map(|(key, value)| (key.clone(), in_order(value))).collect();
            Value::Object(sorted.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(in_order).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}
