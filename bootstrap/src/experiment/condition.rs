//! What an experiment waits for, and whether it is so.
//!
//! Pure: what Kubernetes, a node or a server said comes in as [`Witness`].

use std::fmt;
use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;
use jsonpath_rust::JsonPath as _;
use serde_json::Value;

use super::plan::Asker;

/// Something that can be so or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Kubernetes calls a node Ready, or does not.
    Node {
        /// The node.
        name: String,
        /// Which of the two.
        ready: bool,
    },
    /// So many pods run and are ready.
    Pods {
        /// Their labels, as `app=web`.
        labels: String,
        /// Their namespace.
        namespace: String,
        /// How many, at least.
        running: usize,
        /// Where.
        place: PodPlace,
    },
    /// A field of an object has a value.
    Field {
        /// The object.
        object: ObjectName,
        /// Where in it, in kubectl's words: `{.status.readyReplicas}`.
        path: FieldPath,
        /// What is to be there.
        value: FieldValue,
    },
    /// The API server answers, or does not.
    Api {
        /// Which of the two.
        answers: bool,
    },
    /// A URL is answered with success, or is not.
    Http {
        /// The URL; places of the mesh in it are filled in when it is asked.
        url: String,
        /// From where.
        from: Asker,
        /// Which of the two.
        answers: bool,
    },
    /// A node has a route to an address, or has none.
    Route {
        /// The node.
        node: String,
        /// The address; places of the mesh are filled in.
        to: String,
        /// Which of the two.
        present: bool,
    },
    /// A probe has had an answer to each question for some time.
    Calm {
        /// The probe.
        probe: String,
        /// For how long.
        time: Duration,
    },
}

/// Where pods are to run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PodPlace {
    /// Anywhere.
    #[default]
    Anywhere,
    /// On this node.
    On(String),
    /// On any other node than this.
    Elsewhere(String),
}

/// An object of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName {
    /// Its kind, as kubectl takes it: `deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

/// A place in an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath {
    written: String,
    query: String,
}

/// What is to be in a field, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldValue {
    /// This, and nothing else.
    Is(String),
    /// This, as a part.
    Contains(String),
}

/// What a witness said.
#[derive(Debug, Clone, PartialEq)]
pub enum Witness {
    /// An object, or a list of them; none if there is no such object.
    Object(Option<Value>),
    /// A server answered with this status.
    Answered(u16),
    /// A server, or who was to ask it, did not answer.
    Silent(String),
    /// For so long a probe has had an answer to each question.
    Calm(Duration),
    /// A node's routes to an address, as `ip -j -6 route get` and `route show` have them.
    Routes(Vec<Ipv6Net>),
}

/// Why something is not so.
pub type Reason = String;

/// A path that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is no path as kubectl has them, {{.status.phase}} for one: {reason}")]
pub struct FieldPathError {
    path: String,
    reason: String,
}

// === impl Condition ===

impl Condition {
    /// Whether it is so, by what the witness said.
    ///
    /// # Errors
    ///
    /// Why it is not.
    pub fn holds(&self, witness: &Witness) -> Result<(), Reason> {
        match (self, witness) {
            (Self::Api { answers }, witness) => answered(*answers, witness),
            (Self::Http { answers, .. }, witness) => answered(*answers, witness),
            (_, Witness::Silent(reason)) => Err(reason.clone()),
            (Self::Node { name, ready }, Witness::Object(node)) => node_is(name, *ready, node.as_ref()),
            (Self::Pods { running, place, .. }, Witness::Object(list)) => {
                pods_run(*running, place, list.as_ref())
            }
            (Self::Field { object, path, value }, Witness::Object(found)) => match found {
                None => Err(format!("there is no {object}")),
                Some(found) => field_is(path, value, found),
            },
            (Self::Route { present, to, .. }, Witness::Routes(routes)) => match (routes.first(), present) {
                (Some(_), true) | (None, false) => Ok(()),
                (Some(route), false) => Err(format!("there is a route to {to}: {route}")),
                (None, true) => Err(format!("there is no route to {to}")),
            },
            (Self::Calm { probe, time }, Witness::Calm(calm)) if calm < time => {
                let (calm, time) = (calm.as_secs(), time.as_secs());
                Err(format!("{probe} was answered without a gap for {calm} s, and {time} are wanted"))
            }
            (Self::Calm { .. }, Witness::Calm(_)) => Ok(()),
            (_, Witness::Object(_) | Witness::Answered(_) | Witness::Calm(_) | Witness::Routes(_)) => {
                Err("the wrong witness was asked".to_owned())
            }
        }
    }
}

fn answered(wanted: bool, witness: &Witness) -> Result<(), Reason> {
    match (witness, wanted) {
        (Witness::Answered(200..=299), true) => Ok(()),
        (Witness::Answered(status), true) => Err(format!("it answers {status}")),
        (Witness::Answered(200..=299), false) => Err("it answers".to_owned()),
        (Witness::Silent(reason), true) => Err(reason.clone()),
        (Witness::Answered(_) | Witness::Silent(_), false) => Ok(()),
        (Witness::Object(_) | Witness::Calm(_) | Witness::Routes(_), _) => {
            Err("the wrong witness was asked".to_owned())
        }
    }
}

fn node_is(name: &str, ready: bool, node: Option<&Value>) -> Result<(), Reason> {
    let Some(node) = node else { return Err(format!("there is no node {name}")) };
    let condition = condition(node, "Ready");
    let status = condition.and_then(|condition| condition["status"].as_str()).unwrap_or("Unknown");
    if (status == "True") == ready {
        return Ok(());
    }
    let message = condition.and_then(|condition| condition["message"].as_str()).unwrap_or_default();
    Err(if ready { format!("{name} is NotReady: {message}") } else { format!("{name} is Ready") })
}

fn pods_run(wanted: usize, place: &PodPlace, list: Option<&Value>) -> Result<(), Reason> {
    let none = Vec::new();
    let pods = list.and_then(|list| list["items"].as_array()).unwrap_or(&none);
    let is_right = |pod: &&Value| {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        let there = match place {
            PodPlace::Anywhere => true,
            PodPlace::On(wanted) => node == wanted,
            PodPlace::Elsewhere(other) => !node.is_empty() && node != other,
        };
        let ready = condition(pod, "Ready").is_some_and(|condition| condition["status"] == "True");
        // One that is to go counts for nothing, however long that takes.
        there && ready && pod["metadata"]["deletionTimestamp"].is_null()
    };
    let running = pods.iter().filter(is_right).count();
    if running >= wanted {
        return Ok(());
    }
    let told = pods.iter().map(|pod| {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let going = if pod["metadata"]["deletionTimestamp"].is_null() { "" } else { ", is to go" };
        format!(
            "{} is {} on {}{going}",
            text(&pod["metadata"]["name"]),
            text(&pod["status"]["phase"]),
            text(&pod["spec"]["nodeName"])
        )
    });
    let told: Vec<String> = told.collect();
    let told = if told.is_empty() { "there are none".to_owned() } else { told.join(", ") };
    Err(format!("{running} of {wanted} pods run{place}: {told}"))
}

fn field_is(path: &FieldPath, wanted: &FieldValue, object: &Value) -> Result<(), Reason> {
    let found = path.texts(object);
    let is_it = |text: &String| match wanted {
        FieldValue::Is(wanted) => text == wanted,
        FieldValue::Contains(part) => text.contains(part),
    };
    if found.iter().any(is_it) {
        return Ok(());
    }
    let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
    Err(format!("{path} is {found}"))
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { name, ready: true } => write!(f, "{name} is Ready"),
            Self::Node { name, ready: false } => write!(f, "{name} is NotReady"),
            Self::Pods { labels, running, place, .. } => {
                write!(f, "{running} pods of {labels} run{place}")
            }
            Self::Field { object, path, value: FieldValue::Is(text) } => {
                write!(f, "{path} of {object} is {text}")
            }
            Self::Field { object, path, value: FieldValue::Contains(part) } => {
                write!(f, "{path} of {object} contains {part}")
            }
            Self::Api { answers: true } => f.write_str("the API server answers"),
            Self::Api { answers: false } => f.write_str("the API server does not answer"),
            Self::Http { url, from, answers: true } => write!(f, "{url} answers {from}"),
            Self::Http { url, from, answers: false } => write!(f, "{url} does not answer {from}"),
            Self::Route { node, to, present: true } => write!(f, "{node} has a route to {to}"),
            Self::Route { node, to, present: false } => write!(f, "{node} has no route to {to}"),
            Self::Calm { probe, time } => write!(f, "{probe} is answered for {} s", time.as_secs()),
        }
    }
}

// === impl PodPlace ===

impl fmt::Display for PodPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anywhere => Ok(()),
            Self::On(node) => write!(f, " on {node}"),
            Self::Elsewhere(node) => write!(f, " elsewhere than on {node}"),
        }
    }
}

// === impl ObjectName ===

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

// === impl FieldPath ===

impl FieldPath {
    /// Understands `{.status.phase}`, with or without braces.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn new(text: &str) -> Result<Self, FieldPathError> {
        let error = |reason: String| FieldPathError { path: text.to_owned(), reason };
        let bare = text.trim();
        let bare = bare.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(bare);
        let query = if bare.starts_with('$') { bare.to_owned() } else { format!("${bare}") };
        jsonpath_rust::parser::parse_json_path(&query).map_err(|problem| error(problem.to_string()))?;
        Ok(Self { written: text.to_owned(), query })
    }

    /// What is there in an object: texts without quotes, all else as JSON.
    fn texts(&self, object: &Value) -> Vec<String> {
        let found = object.query(&self.query).unwrap_or_default();
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        found.into_iter().map(text).collect()
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// The routes among a node's, as `ip -j -6 route show` has them, that lead to an address: the default route is none, it leads
/// everywhere; nor is one that is for nobody to be sent anywhere, as the mesh's own prefix has on every node.
#[must_use]
pub fn routes_to(address: Ipv6Addr, routes: &[Value]) -> Vec<Ipv6Net> {
    let ends =
        |route: &Value| matches!(route["type"].as_str(), Some("unreachable" | "blackhole" | "prohibit"));
    let leads = |route: &Ipv6Net| route.prefix_len() > 0 && route.contains(&address);
    let nets = routes.iter().filter(|route| !ends(route)).filter_map(|route| net(route["dst"].as_str()?));
    nets.filter(leads).collect()
}

fn net(text: &str) -> Option<Ipv6Net> {
    text.parse().ok().or_else(|| text.parse::<Ipv6Addr>().ok().map(Ipv6Net::from))
}
