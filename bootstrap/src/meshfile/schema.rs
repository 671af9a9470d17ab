//! The file's JSON Schema: `meshboot config schema`.

use std::collections::BTreeSet;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::written::{CONTROL_PLANES, Written};
use crate::settings::{KEYS, Key};

/// Where the newest schemas of this form of files are published.
const PLACE: &str = "https://meshboot.io/schema/v1alpha1";

/// The schema, JSON Schema 2020-12, as it is published.
#[must_use]
pub fn schema() -> String {
    schema_of::<Written>("mesh")
}

/// The schema of a file, known by this name.
pub(crate) fn schema_of<T: JsonSchema>(name: &str) -> String {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    schema.insert("$id".to_owned(), json!(format!("{PLACE}/{name}.json")));
    format!("{:#}", schema.to_value())
}

/// Every setting there is, section by section.
pub(super) fn settings(_: &mut SchemaGenerator) -> Schema {
    let sections: BTreeSet<&str> = KEYS.iter().map(Key::section).collect();
    let section = |name: &&str| {
        let keys = KEYS.iter().filter(|key| key.section() == *name);
        let properties: Map<String, Value> = keys.map(|key| (key.leaf().to_owned(), setting(key))).collect();
        let section = json!({ "type": "object", "properties": properties, "additionalProperties": false });
        ((*name).to_owned(), section)
    };
    let properties: Map<String, Value> = sections.iter().map(section).collect();
    json_schema!({
        "description": "Settings of the site, section by section, as in meshboot.toml.",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

/// One setting. A text may be written as the number or the truth value that it looks like.
fn setting(key: &Key) -> Value {
    let mut schema = match key.default_value() {
        Some(toml::Value::Array(_)) => json!({ "type": "array", "items": { "type": "string" } }),
        Some(toml::Value::Boolean(_)) => json!({ "type": ["boolean", "string"] }),
        Some(_) | None => json!({ "type": ["string", "integer"] }),
    };
    schema["description"] = json!(key.meaning);
    if let Some(default) = key.default_value() {
        schema["default"] = json!(default);
    }
    schema
}

pub(super) fn size(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [
        { "type": "string", "pattern": "^[0-9]+ *([KMGT](iB)?|B)?$" },
        { "type": "integer", "minimum": 0 },
    ]})
}

pub(super) fn cpus(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 64 }, { "const": "auto" }] })
}

pub(super) fn control_planes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": CONTROL_PLANES })
}

pub(super) fn shape(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": ["grid", "line", "ring"] })
}
