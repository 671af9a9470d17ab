//! The file that says all of a plan: `meshboot config show`.
//!
//! It is written by hand, so that it reads as a person would write it. Whatever another reader of YAML could take for
//! something else than a text stands in quotes.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use hardware::MachineNumber;
use hardware::profile::MESH_PORTS;
use ignition::ControlPlaneSpec;

use super::plan::MeshPlan;
use super::written::{API_VERSION, KIND};
use super::yaml::{self, Scalar};
use crate::deployment::WantedMachine;

/// Words that are truth values for readers of YAML 1.1.
const OLD_WORDS: [&str; 8] = ["y", "n", "yes", "no", "on", "off", "true", "false"];

/// The file.
pub(super) fn file(plan: &MeshPlan) -> String {
    let mut text = Lines::default();
    text.line(0, format_args!("apiVersion: {API_VERSION}"));
    text.line(0, format_args!("kind: {KIND}"));
    if let Some(name) = &plan.name {
        text.line(0, format_args!("name: {}", scalar(name.as_str())));
    }
    settings(&mut text, plan);
    text.line(0, format_args!("machines:"));
    for (number, wanted) in (0..).map(MachineNumber).zip(&plan.wanted.machines) {
        machine(&mut text, number, wanted);
    }
    cables(&mut text, plan);
    control_plane(&mut text, &plan.control_plane);
    text.0
}

/// Settings that are not as they are by default.
fn settings(text: &mut Lines, plan: &MeshPlan) {
    let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (name, setting) in plan.settings.differing() {
        if let Some((section, leaf)) = name.split_once('.') {
            sections.entry(section.to_owned()).or_default().insert(leaf.to_owned(), value(&setting));
        }
    }
    if !sections.is_empty() {
        text.line(0, format_args!("settings:"));
    }
    for (section, leaves) in sections {
        text.line(1, format_args!("{section}:"));
        for (leaf, value) in leaves {
            text.line(2, format_args!("{leaf}: {value}"));
        }
    }
}

fn machine(text: &mut Lines, number: MachineNumber, wanted: &WantedMachine) {
    let is_seed = number == MachineNumber::SEED;
    text.line(1, format_args!("- name: {}", scalar(wanted.name.as_str())));
    if is_seed {
        text.line(2, format_args!("role: seed"));
    } else if wanted.node.control_plane {
        text.line(2, format_args!("role: control-plane"));
    }
    text.line(2, format_args!("memory: {}", size(u64::from(wanted.memory_mib) << 20)));
    match wanted.cpus {
        Some(cpus) => text.line(2, format_args!("cpus: {cpus}")),
        None => text.line(2, format_args!("cpus: auto")),
    }
    if !is_seed {
        text.line(2, format_args!("disk: {}", size(wanted.disk)));
    }
    if wanted.ports != MESH_PORTS {
        text.line(2, format_args!("ports: {}", wanted.ports));
    }
    let node = &wanted.node;
    if let Some(image) = &node.image {
        // Digits alone would be read as a number.
        text.line(2, format_args!("image: {}", scalar(image.as_str())));
    }
    if let Some(version) = node.kubernetes_version {
        text.line(2, format_args!("kubernetesVersion: {version}"));
    }
    text.map("labels", node.labels.iter().map(|(key, value)| (key, scalar(value))));
    if !node.taints.is_empty() {
        let taints: Vec<String> = node.taints.iter().map(|taint| scalar(&taint.to_string())).collect();
        text.line(2, format_args!("taints: [{}]", taints.join(", ")));
    }
    text.map("featureGates", node.feature_gates.iter().map(|(gate, on)| (gate, on.to_string())));
    text.map("kubelet", node.kubelet.iter().map(|(name, value)| (name, scalar(value))));
}

fn cables(text: &mut Lines, plan: &MeshPlan) {
    let name = |number: MachineNumber| {
        let machine = plan.wanted.machines.get(usize::from(number.0));
        machine.map_or_else(|| number.usual_name(), |machine| machine.name.to_string())
    };
    match plan.wanted.cables.as_slice() {
        [] => text.line(0, format_args!("cables: []")),
        cables => {
            text.line(0, format_args!("cables:"));
            for cable in cables {
                let [near, far] = cable.ends().map(|end| format!("{}:{}", name(end.machine), end.port));
                text.line(1, format_args!("- {near} - {far}"));
            }
        }
    }
}

fn control_plane(text: &mut Lines, spec: &ControlPlaneSpec) {
    let all = [
        ("apiserver", &spec.apiserver),
        ("controllerManager", &spec.controller_manager),
        ("scheduler", &spec.scheduler),
        ("etcd", &spec.etcd),
    ];
    if all.iter().any(|(_, arguments)| !arguments.is_empty()) {
        text.line(0, format_args!("extraConfig:"));
    }
    for (component, arguments) in all.into_iter().filter(|(_, arguments)| !arguments.is_empty()) {
        text.line(1, format_args!("{component}:"));
        for (name, value) in arguments {
            text.line(2, format_args!("{}: {}", scalar(name), scalar(value)));
        }
    }
}

/// The text in the making.
#[derive(Default)]
struct Lines(String);

// === impl Lines ===

impl Lines {
    fn line(&mut self, depth: usize, line: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _infallible = writeln!(self.0, "{:indent$}{line}", "", indent = 2 * depth);
    }

    /// A mapping of a machine on a line of its own, if there is something in it.
    fn map<'a>(&mut self, name: &str, pairs: impl Iterator<Item = (&'a String, String)>) {
        let pairs: Vec<String> = pairs.map(|(key, value)| format!("{}: {value}", scalar(key))).collect();
        if !pairs.is_empty() {
            self.line(2, format_args!("{name}: {{{}}}", pairs.join(", ")));
        }
    }
}

/// `2GiB`, or in the largest unit that is exact.
pub(super) fn size(octets: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let exact = units.into_iter().find(|(shift, _)| octets != 0 && octets.trailing_zeros() >= *shift);
    exact.map_or_else(|| octets.to_string(), |(shift, unit)| format!("{}{unit}", octets >> shift))
}

fn value(setting: &toml::Value) -> String {
    match setting {
        toml::Value::Array(items) => {
            let items: Vec<String> = items.iter().map(value).collect();
            format!("[{}]", items.join(", "))
        }
        toml::Value::String(text) => scalar(text),
        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => setting.to_string(),
        // No setting is one of them: it would have been refused.
        toml::Value::Datetime(_) | toml::Value::Table(_) => scalar(&setting.to_string()),
    }
}

/// A text, in quotes unless every reader takes it for one without.
fn scalar(text: &str) -> String {
    let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"_./-".contains(&octet);
    let is_plain = text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric() || first == b'/')
        && text.bytes().all(allowed)
        && text.bytes().any(|octet| octet.is_ascii_alphabetic())
        && !text.starts_with("0b")
        && !OLD_WORDS.contains(&text.to_ascii_lowercase().as_str())
        && matches!(yaml::plain(text), Scalar::Text(_));
    if is_plain { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        let code = u32::from(letter);
        // Writing to a String cannot fail.
        let _infallible = match letter {
            '"' | '\\' => write!(quoted, "\\{letter}"),
            ' '..='~' => write!(quoted, "{letter}"),
            _ if code <= 0xff => write!(quoted, "\\x{code:02x}"),
            _ if code <= 0xffff => write!(quoted, "\\u{code:04x}"),
            _ => write!(quoted, "\\U{code:08x}"),
        };
    }
    quoted.push('"');
    quoted
}
