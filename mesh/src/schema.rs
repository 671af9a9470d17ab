//! JSON Schemas of what is written as a text: of such a type a derived one would tell how it is kept.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::{Block, LinkPrefix, Mac, MachineId};

macro_rules! texts {
    ($($type:ident: $schema:tt)*) => {
        $(impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        })*
    };
}

texts! {
    Mac: {
        "description": "An Ethernet address.",
        "type": "string",
        "pattern": "^([0-9a-f]{2}:){5}[0-9a-f]{2}$",
    }
    Block: { "description": "A machine's addresses.", "type": "string", "pattern": "^[0-9a-f:.]+/119$" }
    LinkPrefix: { "description": "A link's addresses.", "type": "string", "pattern": "^[0-9a-f:.]+/126$" }
    MachineId: { "description": "What a machine is known by.", "type": "string", "format": "uuid" }
}

/// Addresses with one prefix.
pub(crate) fn net(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^[0-9a-f:.]+/[0-9]{1,3}$" })
}
