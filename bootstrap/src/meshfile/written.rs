//! A mesh as it is written: the fields of the file, each with its place, and nothing checked but its type.
//!
//! These types are what the file may say: its reader and its schema are made of them. Flags of `deploy libvirt` make
//! the same types, so what is true of the file is true of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use hardware::Shape;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::given::Given;
use super::schema;

/// The form of the file that this program knows.
pub const API_VERSION: &str = "meshboot.io/v1alpha1";
/// What the file describes.
pub const KIND: &str = "Mesh";
/// How many control planes there may be where a number is given: an even number of etcd's members bears no more losses
/// than one less.
pub const CONTROL_PLANES: [u16; 3] = [1, 3, 5];

/// Values by name.
pub(super) type Named<T> = BTreeMap<String, Given<T>>;
/// A list in which each item has its place.
pub(super) type List<T> = Vec<Given<T>>;

/// A mesh: its site, its machines, and the cables between them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Mesh", extend("required" = ["apiVersion", "kind", "machines"]))]
pub struct Written {
    /// The form of the file.
    #[schemars(extend("const" = API_VERSION))]
    pub api_version: Given<String>,
    /// What the file describes.
    #[schemars(extend("const" = KIND))]
    pub kind: Given<String>,
    /// The mesh's name, by which others are told apart on one computer, as `-p` gives it; without it, it is the one
    /// whose files are in `cluster`.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$"))]
    pub name: Given<String>,
    /// Settings of the site, section by section, as in meshboot.toml.
    #[schemars(schema_with = "schema::settings")]
    pub settings: Given<Named<Named<toml::Value>>>,
    /// What machines are given that do not say otherwise. `memory`, `cpus` and `disk` are what `settings.libvirt` says
    /// under these names; nothing but `cpus` is the seed's, too.
    pub defaults: Given<Defaults>,
    /// The machines. One of them is the seed.
    #[schemars(length(min = 1))]
    pub machines: Given<List<MachineWritten>>,
    /// The cables between machines' ports. Without them the machines are cabled in the shape of `topology`.
    pub cables: Given<List<CableWritten>>,
    /// How machines are cabled if no cables are given, in the order of `machines`: `grid` (two wide), `line` or `ring`.
    /// It is what `settings.libvirt.topology` says.
    #[schemars(schema_with = "schema::shape")]
    pub topology: Given<Shape>,
    /// How many control planes there are, the seed being one. Where fewer machines have that role, those next to the seed
    /// that have none become more.
    #[schemars(schema_with = "schema::control_planes")]
    pub control_planes: Given<u16>,
    /// Flags of the control plane's components, by component and by the flag's name without its dashes.
    pub extra_config: Given<ComponentsWritten>,
    /// What the command line says of single machines, by their names; a file says it with the machine.
    #[serde(skip)]
    pub(super) named: BTreeMap<String, MachineWritten>,
}

/// Flags of the control plane's components.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "ExtraConfig")]
pub struct ComponentsWritten {
    /// Flags of the API servers.
    pub apiserver: Given<Named<Word>>,
    /// Flags of the controller managers.
    pub controller_manager: Given<Named<Word>>,
    /// Flags of the schedulers.
    pub scheduler: Given<Named<Word>>,
    /// Flags of etcd.
    pub etcd: Given<Named<Word>>,
}

/// What a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The first control plane, and the way out.
    Seed,
    /// One more control plane. It boots through a neighbour like any machine.
    ControlPlane,
    /// A machine that boots through a neighbour and runs what Kubernetes places there.
    Worker,
}

/// A text, a number or a truth value, where a text is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word(pub String);

/// One cable: `seed:0 - node1:0`, where a port that is not named is the next free one, or its two ends.
#[derive(Debug, Clone)]
pub enum CableWritten {
    /// In one word.
    Words(String),
    /// End by end.
    Ends(CableEnds),
}

/// The two ends of a cable, each a machine's name, or `NAME:PORT`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["from", "to"]))]
pub struct CableEnds {
    /// One end.
    pub from: Given<String>,
    /// The other.
    pub to: Given<String>,
}

/// Two types that share what a machine can be given.
macro_rules! machines {
    (
        $(#[$of_defaults:meta])* defaults $defaults:ident;
        $(#[$of_machine:meta])* machine $machine:ident { $($(#[$of_own:meta])* $own:ident: $own_type:ty,)* }
        shared { $($(#[$of_shared:meta])* $shared:ident: $shared_type:ty,)* }
    ) => {
        $(#[$of_defaults])*
        #[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields, rename_all = "camelCase")]
        pub struct $defaults {
            $($(#[$of_shared])* pub $shared: Given<$shared_type>,)*
        }

        $(#[$of_machine])*
        #[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields, rename_all = "camelCase")]
        #[schemars(rename = "Machine")]
        pub struct $machine {
            $($(#[$of_own])* pub $own: Given<$own_type>,)*
            $($(#[$of_shared])* pub $shared: Given<$shared_type>,)*
        }
    };
}

machines! {
    /// What machines are given that do not say otherwise.
    defaults Defaults;

    /// One machine, or several that are alike but for their names.
    machine MachineWritten {
        /// Its node's name. Without it `seed`, or `node` with the next number; of several, what stands before their
        /// numbers.
        #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"))]
        name: String,
        /// What it is; without it a worker.
        role: Role,
        /// How many of them there are.
        #[schemars(range(min = 1, max = 500))]
        count: u16,
    }

    shared {
        /// Memory, as `2GiB`.
        #[schemars(schema_with = "schema::size")]
        memory: Word,
        /// Processors; `auto` goes by how they are made.
        #[schemars(schema_with = "schema::cpus")]
        cpus: Word,
        /// Size of the disk, as `10GiB`, which takes up no room until it is written. The seed's is as large as its image.
        #[schemars(schema_with = "schema::size")]
        disk: Word,
        /// Mesh ports, numbered from 0.
        #[schemars(range(min = 1, max = 8))]
        ports: u8,
        /// The images that it boots, as `meshboot image list` shows them, where they are to be others than the mesh's.
        #[schemars(regex(pattern = r"^[0-9a-f]{16}$"))]
        image: String,
        /// The version of its kubelet, as `v1.33.7`, where that is to be another than the mesh's Kubernetes: not newer, and
        /// not older than its policy allows.
        #[schemars(regex(pattern = r"^v?[0-9]+\.[0-9]+\.[0-9]+$"))]
        kubernetes_version: String,
        /// Labels of its node.
        labels: Named<String>,
        /// Taints of its node, as `kubectl taint` has them: `KEY=VALUE:EFFECT` or `KEY:EFFECT`.
        #[schemars(inner(regex(pattern = r"^[^:=]+(=[^:=]*)?:(NoSchedule|PreferNoSchedule|NoExecute)$")))]
        taints: List<String>,
        /// Feature gates of its kubelet.
        feature_gates: Named<bool>,
        /// Flags of its kubelet, by their names without dashes.
        kubelet: Named<Word>,
    }
}

// === impl Word ===

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordVisitor;

        impl Visitor<'_> for WordVisitor {
            type Value = Word;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Word, E> {
                Ok(Word(text.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }

            fn visit_bool<E: de::Error>(self, word: bool) -> Result<Word, E> {
                Ok(Word(word.to_string()))
            }
        }

        deserializer.deserialize_any(WordVisitor)
    }
}

impl JsonSchema for Word {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Word".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer", "boolean"] })
    }
}

// === impl CableWritten ===

impl<'de> Deserialize<'de> for CableWritten {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CableVisitor;

        impl<'de> Visitor<'de> for CableVisitor {
            type Value = CableWritten;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a cable: `seed:0 - node1:0`, or from and to")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<CableWritten, E> {
                Ok(CableWritten::Words(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CableWritten, A::Error> {
                CableEnds::deserialize(MapAccessDeserializer::new(map)).map(CableWritten::Ends)
            }
        }

        deserializer.deserialize_struct("CableEnds", &["from", "to"], CableVisitor)
    }
}

impl JsonSchema for CableWritten {
    fn schema_name() -> Cow<'static, str> {
        "Cable".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A cable: `seed:0 - node1:0`, or its two ends. A port that is not named is the next free one.",
            "anyOf": [
                { "type": "string", "pattern": r"^[-a-z0-9]+(:[0-9]+)? +- +[-a-z0-9]+(:[0-9]+)?$" },
                generator.subschema_for::<CableEnds>(),
            ],
        })
    }
}
