//! What verbs answer programs with: with `-o json`, lines on standard output, each of a form that is published.
//!
//! [`Reporter::result`](crate::progress::Reporter::result) takes nothing but an [`Answer`], and whatever is one is in the
//! list of this file with its verbs: so nothing is said that has no schema. What any verb may say before its answer, or
//! in place of one, is a [`progress::Event`].

use std::collections::BTreeSet;

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform as _};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::exit::{Code, Failure};
use crate::progress::{self, Event, Reporter};
use crate::{
    deploy, experiment, explain, fault, gateway, image, list, manual, meshfile, node, snapshot, status,
    teardown, timeline, verbs, why,
};

/// Where the newest schemas are published.
const PLACE: &str = "https://meshboot.io/schema/v1alpha1/answers";
/// The name of the schema of what any verb may say.
pub const EVENTS: &str = "events";
/// The files that have a schema, by the names under which it is asked for.
const FILES: [File; 2] = [
    File { name: "mesh", about: "a mesh's file, as `deploy -f` takes it", schema: meshfile::schema },
    File {
        name: "experiment",
        about: "an experiment's file, as `experiment run` takes it",
        schema: experiment::schema,
    },
];

/// What a verb says as the outcome of its work.
pub trait Answer: Serialize + JsonSchema {
    /// What its line says that it is.
    const EVENT: &'static str;
}

/// A form of answers, and who gives them.
struct Form {
    /// The words of its verbs; those of a group stand for all in it that are not named themselves.
    verbs: &'static [&'static str],
    event: &'static str,
    schema: fn(&mut SchemaGenerator) -> Schema,
}

/// A file that has a schema.
struct File {
    name: &'static str,
    about: &'static str,
    schema: fn() -> String,
}

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a, A> {
    event: &'static str,
    #[serde(flatten)]
    answer: &'a A,
}

/// What was looked at is as it should be.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Good {
    /// Always true: what is not good is told as an error.
    good: bool,
}

/// The schemas that there are.
#[derive(Debug, Serialize, JsonSchema)]
struct Schemas {
    schemas: Vec<Listed>,
}

/// One schema.
#[derive(Debug, Serialize, JsonSchema)]
struct Listed {
    /// What it is asked for by: `meshboot schema NAME`.
    name: String,
    /// What it describes.
    about: String,
}

macro_rules! answers {
    ($($answer:ty, $event:literal: $($verb:literal)*;)*) => {
        $(impl Answer for $answer {
            const EVENT: &'static str = $event;
        })*

        /// Every form, those of one verb in the order in which it gives them.
        const FORMS: &[Form] = &[$(Form {
            verbs: &[$($verb),*],
            event: $event,
            schema: <$answer as JsonSchema>::json_schema,
        }),*];
    };
}

answers! {
    verbs::Told<'_>, "changes": "deploy";
    deploy::Summary, "result": "deploy";
    node::Changed, "result": "deploy";
    deploy::usb::Written, "result": "deploy usb" "image disk";
    teardown::Removed, "result": "teardown";
    list::List, "result": "list";
    status::Observation, "result": "status" "node status" "node add" "node start" "node reinstall";
    why::Found, "result": "why";
    timeline::Line<'_>, "entry": "timeline";
    timeline::Summary<'_>, "result": "timeline";
    fault::Made, "result": "fault";
    fault::Cleared, "result": "fault clear" "fault link heal" "fault node thaw";
    fault::list::Listing, "result": "fault list";
    experiment::report::Report, "result": "experiment run";
    experiment::List, "result": "experiment list";
    explain::port::PortAccount, "result": "explain";
    explain::replay::Replay, "result": "explain";
    node::List, "result": "node list";
    node::Address, "result": "node ip";
    node::Added, "result": "node add";
    node::Reserved, "result": "node add";
    node::Started, "result": "node start";
    node::Stopped, "result": "node stop";
    node::Removed, "result": "node delete";
    node::AllSaid, "result": "node logs";
    node::Saved, "result": "node logs";
    snapshot::Saved, "result": "snapshot save";
    snapshot::Restored, "result": "snapshot restore";
    snapshot::List, "result": "snapshot list";
    snapshot::Deleted, "result": "snapshot delete";
    image::Built, "result": "image build";
    image::List, "result": "image list";
    image::Loaded, "result": "image load";
    image::AllPulled, "result": "image pull";
    image::AllMissing, "result": "image missing";
    image::Sbom, "result": "image sbom";
    image::Removed, "result": "image rm";
    image::Saved, "result": "image save";
    image::Verified, "result": "image verify";
    Good, "result": "config check" "deps" "experiment check";
    verbs::Shown, "result": "config show";
    verbs::NewSite, "result": "site new";
    manual::Pages, "result": "man";
    gateway::force::Forced, "result": "force-link";
    Schemas, "result": "schema";
}

/// Prints the schema that the words name, or tells which there are.
///
/// # Errors
///
/// There is none of that name.
pub fn run(words: &[String], reporter: &Reporter) -> Result<(), Failure> {
    let name = words.join(" ");
    if name.is_empty() {
        let about = |name: &str| match name {
            EVENTS => "what any verb may say before its answer".to_owned(),
            name => FILES.iter().find(|file| file.name == name).map_or_else(
                || format!("what `meshboot -o json {name}` answers"),
                |file| file.about.to_owned(),
            ),
        };
        let schemas: Vec<Listed> =
            names().map(|name| Listed { name: name.to_owned(), about: about(name) }).collect();
        let rows: Vec<[String; 2]> =
            schemas.iter().map(|one| [one.name.clone(), one.about.clone()]).collect();
        reporter.result(&Schemas { schemas }, &status::columns(&rows));
        return Ok(());
    }
    let schema = schema(&name).ok_or_else(|| {
        let message = format!("there is no schema `{name}`");
        Failure::new(Code::Usage, message).next("`meshboot schema` lists those that there are")
    })?;
    progress::out(&schema);
    Ok(())
}

/// What schemas are asked for by: verbs, [`EVENTS`], and files.
pub fn names() -> impl Iterator<Item = &'static str> {
    let files = FILES.iter().map(|file| file.name);
    verbs().into_iter().chain([EVENTS]).chain(files)
}

/// The verbs, or groups of verbs, whose answers have a schema.
#[must_use]
pub fn verbs() -> BTreeSet<&'static str> {
    FORMS.iter().flat_map(|form| form.verbs).copied().collect()
}

/// The schema of this name, JSON Schema 2020-12, as it is published. A verb has that of its group if it has none of its
/// own.
#[must_use]
pub fn schema(name: &str) -> Option<String> {
    if let Some(file) = FILES.iter().find(|file| file.name == name) {
        return Some((file.schema)());
    }
    let schema = if name == EVENTS { of_events() } else { of_verb(name)? };
    Some(format!("{schema:#}"))
}

/// The verb, or the group of verbs, that has the schema for these words.
#[must_use]
pub fn verb_of(words: &str) -> Option<&'static str> {
    let is_of =
        |verb: &&str| words == *verb || words.strip_prefix(*verb).is_some_and(|rest| rest.starts_with(' '));
    verbs().into_iter().filter(is_of).max_by_key(|verb| verb.len())
}

/// The answer as a line.
pub(crate) fn line<A: Answer>(answer: &A) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Line { event: A::EVENT, answer })
}

fn of_verb(words: &str) -> Option<Value> {
    let verb = verb_of(words)?;
    let mut generator = generator();
    let forms = FORMS.iter().filter(|form| form.verbs.contains(&verb));
    let mut forms: Vec<Value> = forms.map(|form| form.schema(&mut generator)).collect();
    let mut fields = match forms.as_mut_slice() {
        [Value::Object(only)] => std::mem::take(only),
        _ => Map::from_iter([("anyOf".to_owned(), Value::Array(forms))]),
    };
    let title = format!("meshboot -o json {verb}");
    fields.extend(head(&verb.replace(' ', "-"), &title));
    Some(whole(fields, generator))
}

fn of_events() -> Value {
    let mut generator = generator();
    let mut schema = Event::json_schema(&mut generator);
    let mut fields = std::mem::take(schema.ensure_object());
    fields.extend(head(EVENTS, "What any verb may say before its answer"));
    whole(fields, generator)
}

fn head(file: &str, title: &str) -> [(String, Value); 3] {
    [
        ("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema")),
        ("$id".to_owned(), json!(format!("{PLACE}/{file}.json"))),
        ("title".to_owned(), json!(title)),
    ]
}

/// A generator of schemas of what is written, not of what would be read.
fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().for_serialize().into_generator()
}

fn whole(mut fields: Map<String, Value>, mut generator: SchemaGenerator) -> Value {
    let definitions = generator.take_definitions(true);
    if !definitions.is_empty() {
        fields.insert("$defs".to_owned(), Value::Object(definitions));
    }
    let mut schema = Schema::from(fields);
    // What is a link where the program is read is a word here.
    RecursiveTransform(|schema: &mut Schema| {
        if let Some(Value::String(text)) = schema.get_mut("description") {
            *text = text.replace("[`", "`").replace("`]", "`");
        }
    })
    .transform(&mut schema);
    schema.to_value()
}

// === impl Form ===

impl Form {
    fn schema(&self, generator: &mut SchemaGenerator) -> Value {
        let mut schema = (self.schema)(generator).to_value();
        schema["properties"]["event"] = json!({ "description": "What this is.", "const": self.event });
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            required.insert(0, json!("event"));
        } else {
            schema["required"] = json!(["event"]);
        }
        schema
    }
}

// === impl Good ===

impl Good {
    /// What is said when nothing is wrong.
    pub(crate) const ANSWER: Self = Self { good: true };
}

#[cfg(test)]
mod tests;
