//! What the operator wants of one node besides its addresses: labels, taints, its images, its kubelet's version and arguments,
//! and whether it is to be a control plane.
//!
//! It goes with a machine's name from the operator to whoever serves the machine, and from there into kubeadm's
//! configuration. The rules for labels and taints are Kubernetes' own; a kubelet that breaks them does not start, so they
//! are checked where they are written.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{ImageId, KubernetesVersion};

/// Longest name of a label, and longest value.
const MAX_WORD: usize = 63;
/// Longest prefix of a label's key.
const MAX_PREFIX: usize = 253;
/// Labels of Kubernetes' own that a kubelet may give its node (the admission plugin NodeRestriction).
const KUBELETS_OWN: [&str; 2] = ["node.kubernetes.io", "kubelet.kubernetes.io"];
/// Arguments of the kubelet that meshboot sets, or that have a field of their own.
const TAKEN: [&str; 10] = [
    "bootstrap-kubeconfig",
    "config",
    "container-runtime-endpoint",
    "feature-gates",
    "hostname-override",
    "kubeconfig",
    "node-ip",
    "node-labels",
    "register-node",
    "register-with-taints",
];

/// What is wanted of one node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct NodeSpec {
    /// Whether it is to be a control plane. It joins as any node does; a control plane makes it one once it is Ready.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub control_plane: bool,
    /// The images that its machine boots from; none for the mesh's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageId>,
    /// The version of its kubelet; none for the mesh's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<KubernetesVersion>,
    /// Labels that its node has from the beginning.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Taints that its node has from the beginning.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// Feature gates of its kubelet.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub feature_gates: BTreeMap<String, bool>,
    /// Further arguments of its kubelet, without dashes: `max-pods` = `30`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub kubelet: BTreeMap<String, String>,
}

/// What keeps pods away from a node that do not tolerate it. As a text it is kubectl's: `key=value:NoSchedule`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Taint {
    /// Its key, as of a label.
    pub key: String,
    /// Its value, as of a label; often empty.
    pub value: String,
    /// What it does.
    pub effect: Effect,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// None is put there.
    NoSchedule,
    /// None is put there if there is room elsewhere.
    PreferNoSchedule,
    /// None is put there, and those that are there leave.
    NoExecute,
}

/// What is wrong with a label, a taint or an argument.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A key that Kubernetes does not take.
    #[error(
        "`{0}` is no key of a label: up to 63 of letters, digits, `-`, `_` and `.`, first and last a letter or digit, behind \
         a domain and `/` if it has one"
    )]
    Key(String),
    /// A value that Kubernetes does not take.
    #[error(
        "`{0}` is no value of a label: up to 63 of letters, digits, `-`, `_` and `.`, first and last a letter or digit"
    )]
    Value(String),
    /// A label that the API server lets no kubelet set.
    #[error("the label `{0}` is Kubernetes' own: a node may not give it to itself")]
    Reserved(String),
    /// No taint.
    #[error(
        "`{0}` is no taint: KEY=VALUE:EFFECT or KEY:EFFECT, with NoSchedule, PreferNoSchedule or NoExecute"
    )]
    Taint(String),
    /// No feature gate.
    #[error("`{0}` is no feature gate: a name of letters and digits")]
    Gate(String),
    /// No argument.
    #[error(
        "`{0}` is no argument of the kubelet: small letters, digits and `-`, without the dashes before it"
    )]
    Argument(String),
    /// An argument that is not free.
    #[error("the kubelet's `{0}` is set by meshboot itself")]
    Taken(String),
    /// No argument of a control plane's component.
    #[error(
        "`{name}` is no argument of {component}: small letters, digits and `-`, without the dashes before it"
    )]
    ComponentArgument {
        /// The component.
        component: &'static str,
        /// What was to be its argument.
        name: String,
    },
    /// An argument of a component that is not free.
    #[error("the {component}'s `{name}` is set by meshboot itself")]
    ComponentTaken {
        /// The component.
        component: &'static str,
        /// The argument.
        name: String,
    },
    /// A value that no file of kubeadm's can hold.
    #[error("the value of the {component}'s `{name}` has a line break")]
    ComponentValue {
        /// The component.
        component: &'static str,
        /// The argument.
        name: String,
    },
    /// A value that would be another argument.
    #[error(
        "the value of the kubelet's `{0}` has a line break or a quotation mark, which no argument of it can hold"
    )]
    ArgumentValue(String),
}

// === impl NodeSpec ===

impl NodeSpec {
    /// Everything that is wrong with it.
    #[must_use]
    pub fn mistakes(&self) -> Vec<SpecError> {
        let labels = self.labels.iter().flat_map(|(key, value)| [label_key(key), label_value(value)]);
        let gates = self.feature_gates.keys().map(|gate| feature_gate(gate));
        let arguments = self.kubelet.iter().map(|(name, value)| kubelet_argument(name, value));
        labels.chain(gates).chain(arguments).filter_map(Result::err).collect()
    }

    /// The version of its kubelet, if that is another than the mesh's.
    #[must_use]
    pub fn own_kubelet(&self, mesh: KubernetesVersion) -> Option<KubernetesVersion> {
        self.kubernetes_version.filter(|version| *version != mesh)
    }

    /// The kubelet's arguments that all of it comes to, besides taints, by name.
    #[must_use]
    pub fn arguments(&self) -> BTreeMap<String, String> {
        let mut arguments = self.kubelet.clone();
        let list = |pairs: Vec<String>| (!pairs.is_empty()).then(|| pairs.join(","));
        let labels = self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let gates = self.feature_gates.iter().map(|(gate, on)| format!("{gate}={on}")).collect();
        arguments.extend(list(labels).map(|labels| ("node-labels".to_owned(), labels)));
        arguments.extend(list(gates).map(|gates| ("feature-gates".to_owned(), gates)));
        arguments
    }
}

/// Checks a label's key as kubelets may set it.
///
/// # Errors
///
/// [`SpecError::Key`] or [`SpecError::Reserved`].
pub fn label_key(key: &str) -> Result<(), SpecError> {
    qualified(key)?;
    let Some((prefix, _)) = key.split_once('/') else { return Ok(()) };
    let within = |domain: &str| prefix == domain || prefix.ends_with(&format!(".{domain}"));
    let theirs = within("kubernetes.io") || within("k8s.io");
    if theirs && !KUBELETS_OWN.into_iter().any(within) {
        return Err(SpecError::Reserved(key.to_owned()));
    }
    Ok(())
}

/// Checks a label's value.
///
/// # Errors
///
/// [`SpecError::Value`].
pub fn label_value(value: &str) -> Result<(), SpecError> {
    if value.is_empty() || is_word(value) { Ok(()) } else { Err(SpecError::Value(value.to_owned())) }
}

/// Checks the name of a feature gate.
///
/// # Errors
///
/// [`SpecError::Gate`].
pub fn feature_gate(gate: &str) -> Result<(), SpecError> {
    let good = !gate.is_empty() && gate.bytes().all(|octet| octet.is_ascii_alphanumeric());
    if good { Ok(()) } else { Err(SpecError::Gate(gate.to_owned())) }
}

/// Checks an argument of the kubelet.
///
/// # Errors
///
/// [`SpecError::Argument`], [`SpecError::Taken`] or [`SpecError::ArgumentValue`].
pub fn kubelet_argument(name: &str, value: &str) -> Result<(), SpecError> {
    if !is_argument(name) {
        return Err(SpecError::Argument(name.to_owned()));
    }
    if TAKEN.contains(&name) {
        return Err(SpecError::Taken(name.to_owned()));
    }
    // kubeadm writes them into a file that the shell's rules of quotation apply to.
    let good = !value.contains(['\n', '\r', '"', '\'', '\\', '\0']);
    if good { Ok(()) } else { Err(SpecError::ArgumentValue(name.to_owned())) }
}

/// Whether a text can be an argument's name, without the dashes before it.
pub(crate) fn is_argument(name: &str) -> bool {
    let allowed = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
    !name.is_empty() && !name.starts_with('-') && name.bytes().all(allowed)
}

/// A key as Kubernetes takes it: a name, behind a domain if it has one.
fn qualified(key: &str) -> Result<(), SpecError> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let good = is_word(name) && prefix.is_none_or(|prefix| prefix.len() <= MAX_PREFIX && is_domain(prefix));
    if good { Ok(()) } else { Err(SpecError::Key(key.to_owned())) }
}

fn is_word(text: &str) -> bool {
    let edge = |octet: Option<&u8>| octet.is_some_and(u8::is_ascii_alphanumeric);
    let octets = text.as_bytes();
    let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet);
    text.len() <= MAX_WORD && edge(octets.first()) && edge(octets.last()) && text.bytes().all(allowed)
}

/// RFC 1123's labels, divided by dots.
fn is_domain(text: &str) -> bool {
    let allowed = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
    text.split('.').all(|label| {
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(allowed)
    })
}

// === impl Taint ===

impl FromStr for Taint {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || SpecError::Taint(text.to_owned());
        let (what, effect) = text.rsplit_once(':').ok_or_else(wrong)?;
        let (key, value) = what.split_once('=').unwrap_or((what, ""));
        qualified(key)?;
        label_value(value)?;
        let effects = [Effect::NoSchedule, Effect::PreferNoSchedule, Effect::NoExecute];
        let effect = effects.into_iter().find(|known| known.to_string() == effect).ok_or_else(wrong)?;
        Ok(Self { key: key.to_owned(), value: value.to_owned(), effect })
    }
}

impl TryFrom<String> for Taint {
    type Error = SpecError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Taint> for String {
    fn from(taint: Taint) -> Self {
        taint.to_string()
    }
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.as_str() {
            "" => write!(f, "{}:{}", self.key, self.effect),
            value => write!(f, "{}={value}:{}", self.key, self.effect),
        }
    }
}

// === impl Effect ===

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_kubernetes_own() {
        for key in
            ["rack", "example.com/rack", "a", "A_b.c-d9", "node.kubernetes.io/exclude", &"k".repeat(63)]
        {
            assert_eq!(label_key(key), Ok(()), "{key}");
        }
        for key in ["", "-a", "a-", "a b", "/a", "a/", "Example.com/a", "a/b/c", "ü", &"k".repeat(64)] {
            assert_eq!(label_key(key), Err(SpecError::Key(key.to_owned())));
        }
        for key in ["kubernetes.io/os", "node-role.kubernetes.io/control-plane", "k8s.io/x"] {
            assert_eq!(label_key(key), Err(SpecError::Reserved(key.to_owned())));
        }
        assert_eq!((label_value(""), label_value("r1"), label_value("a.b_c")), (Ok(()), Ok(()), Ok(())));
        for value in ["-", "a,b", "a=b", "r 1", &"v".repeat(64)] {
            assert_eq!(label_value(value), Err(SpecError::Value(value.to_owned())));
        }
    }

    #[test]
    fn taints_are_read_as_kubectl_writes_them() {
        for text in ["dedicated=db:NoSchedule", "slow:PreferNoSchedule", "example.com/gone:NoExecute"] {
            assert_eq!(text.parse::<Taint>().unwrap().to_string(), text);
        }
        for text in ["", "a", "a=b", "a:Never", ":NoSchedule", "a=b c:NoExecute", "a=b:NoSchedule:"] {
            assert!(text.parse::<Taint>().is_err(), "{text}");
        }
    }

    #[test]
    fn all_of_it_comes_to_arguments_in_order() {
        let json = r#"{"labels":{"b":"2","a":"1"},"taints":["x=y:NoSchedule"],"featureGates":{"B":true,"A":false},
                       "kubelet":{"max-pods":"30"},"controlPlane":true}"#;
        let spec: NodeSpec = serde_json::from_str(json).unwrap();
        assert_eq!(spec.mistakes(), []);
        let arguments: Vec<String> =
            spec.arguments().iter().map(|(name, value)| format!("--{name}={value}")).collect();
        assert_eq!(arguments, ["--feature-gates=A=false,B=true", "--max-pods=30", "--node-labels=a=1,b=2"]);
        assert!(NodeSpec::default().arguments().is_empty());
        assert_eq!(serde_json::to_string(&NodeSpec::default()).unwrap(), "{}");
    }

    #[test]
    fn a_kubelet_is_a_nodes_own_if_it_is_another_than_the_meshs() {
        let own = |json: &str| {
            let spec: NodeSpec = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&spec).unwrap(), json);
            spec.own_kubelet(KubernetesVersion::new(1, 34, 2))
        };
        assert_eq!(own("{}"), None);
        assert_eq!(own(r#"{"kubernetesVersion":"v1.34.2"}"#), None);
        assert_eq!(own(r#"{"kubernetesVersion":"v1.33.7"}"#), Some(KubernetesVersion::new(1, 33, 7)));
        assert!(serde_json::from_str::<NodeSpec>(r#"{"kubernetesVersion":"1.33"}"#).is_err());
    }

    #[test]
    fn every_mistake_is_found() {
        let pair = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let spec = NodeSpec {
            image: None,
            control_plane: true,
            kubernetes_version: None,
            labels: pair("-", "="),
            taints: Vec::new(),
            feature_gates: BTreeMap::from([("A-B".to_owned(), true)]),
            kubelet: [pair("node-ip", "::1"), pair("--v", "4"), pair("v", "4'")]
                .into_iter()
                .flatten()
                .collect(),
        };
        let expected = [
            SpecError::Key("-".to_owned()),
            SpecError::Value("=".to_owned()),
            SpecError::Gate("A-B".to_owned()),
            SpecError::Argument("--v".to_owned()),
            SpecError::Taken("node-ip".to_owned()),
            SpecError::ArgumentValue("v".to_owned()),
        ];
        assert_eq!(spec.mistakes(), expected);
    }
}
