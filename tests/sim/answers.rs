//! Whether what the program says to programs is of the form that it publishes.
//!
//! Schemas that are published allow fields that are not in them: a later version may say more. This one may not, so they
//! are closed here before they are asked.

use anyhow::{Context, Error, Result};
use bootstrap::answers::{EVENTS, schema};
use bootstrap::cli::Cli;
use bootstrap::progress::Output;
use clap::{ArgMatches, CommandFactory as _};
use serde_json::Value;

/// Looks whether all that was said to these words is of a published form, if it was to be JSON. Returns how many lines
/// it were.
pub fn are_published(words: &[impl AsRef<str>], said: &[u8]) -> Result<usize> {
    let words = words.iter().map(AsRef::as_ref);
    // What is no command was told to people.
    let Ok(matches) = Cli::command().try_get_matches_from(["meshboot"].into_iter().chain(words)) else {
        return Ok(0);
    };
    let (verb, output) = verb(&matches);
    if output != Output::Json {
        return Ok(0);
    }
    // Without a schema a verb prints what is for another program; how it fails has the form of all.
    let answer = schema(&verb).map(|text| Form::new(&text)).transpose()?;
    let events = Form::new(&schema(EVENTS).context("events have a schema")?)?;
    let said = String::from_utf8_lossy(said);
    let mut checked = 0;
    for line in said.lines() {
        let what = || format!("`{verb}` says {line}");
        match (serde_json::from_str(line), &answer) {
            (Ok(event), _) if events.check(&event).is_ok() => {}
            (Ok(value), Some(answer)) => answer.check(&value).with_context(what)?,
            (Err(error), Some(_)) => return Err(error).with_context(what),
            (Ok(_) | Err(_), None) => continue,
        }
        checked += 1;
    }
    Ok(checked)
}

/// The words of the verb, without its options, and the form that was asked for.
fn verb(matches: &ArgMatches) -> (String, Output) {
    let (mut words, mut matches) = (Vec::new(), matches);
    while let Some((word, below)) = matches.subcommand() {
        words.push(word);
        matches = below;
    }
    (words.join(" "), matches.get_one::<Output>("output").copied().unwrap_or_default())
}

/// A schema, closed.
struct Form {
    schemas: boon::Schemas,
    index: boon::SchemaIndex,
}

// === impl Form ===

impl Form {
    fn new(text: &str) -> Result<Self> {
        const PLACE: &str = "closed.json";
        let mut schema: Value = serde_json::from_str(text)?;
        close(&mut schema, true);
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.enable_format_assertions();
        compiler.add_resource(PLACE, schema).map_err(|error| Error::msg(format!("{error:#}")))?;
        let index =
            compiler.compile(PLACE, &mut schemas).map_err(|error| Error::msg(format!("{error:#}")))?;
        Ok(Self { schemas, index })
    }

    fn check(&self, value: &Value) -> Result<()> {
        let checked = self.schemas.validate(value, self.index);
        checked.map_err(|error| Error::msg(format!("it is not of the published form: {error:#}")))
    }
}

/// Forbids what is not said, wherever a value stands: what several schemas say of one object they say together.
fn close(schema: &mut Value, is_place: bool) {
    let Value::Object(fields) = schema else { return };
    for named in ["$defs", "properties"] {
        let schemas = fields.get_mut(named).and_then(Value::as_object_mut).into_iter().flatten();
        schemas.for_each(|(_, below)| close(below, named == "properties"));
    }
    for among in ["allOf", "anyOf", "oneOf"] {
        let schemas = fields.get_mut(among).and_then(Value::as_array_mut).into_iter().flatten();
        schemas.for_each(|below| close(below, false));
    }
    for inner in ["additionalProperties", "items"] {
        fields.get_mut(inner).into_iter().for_each(|below| close(below, true));
    }
    if is_place {
        fields.insert("unevaluatedProperties".to_owned(), Value::Bool(false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_published_is_found() {
        let said = |line: &str| are_published(&["-o", "json", "fault", "list"], line.as_bytes());
        let fault = r#"{"id":"f1","kind":null,"text":"?","machines":[],"state":"unknown","stands":null,"left":null,"reason":null,"again":null}"#;
        let listing = |fault: &str| format!("{{\"event\":\"result\",\"faults\":[{fault}]}}");
        assert_eq!(said(&listing(fault)).unwrap(), 1);
        assert_eq!(
            said("{\"event\":\"line\",\"text\":\"a\"}\n{\"event\":\"result\",\"faults\":[]}\n").unwrap(),
            2
        );
        assert_eq!(are_published(&["fault", "list"], b"nothing is broken\n").unwrap(), 0);
        for wrong in [
            "nothing is broken".to_owned(),
            r#"{"event":"result"}"#.to_owned(),
            r#"{"faults":[]}"#.to_owned(),
            r#"{"event":"changes","faults":[]}"#.to_owned(),
            r#"{"event":"result","faults":[],"more":1}"#.to_owned(),
            r#"{"event":"error","code":1,"error":"a","next":null}"#.to_owned(),
            r#"{"event":"line","text":"a","more":1}"#.to_owned(),
            listing(&fault.replace("null}", "null,\"more\":1}")),
            listing(&fault.replace("[]", "\"node1\"")),
            listing(&fault.replace("\"stands\":null,", "")),
        ] {
            assert!(said(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_place_holds_is_said_by_several_schemas_together() {
        let entry = |detail: &str| {
            format!(
                r#"{{"event":"entry","time":"","text":"","at":1,"within":0,"machines":[],"source":"journal","detail":{detail}}}"#
            )
        };
        let said = |detail: &str| are_published(&["-o", "json", "timeline"], entry(detail).as_bytes());
        let fault =
            r#"{"act":"fault-injected","id":"f1","kind":"node kill","machines":[],"text":"","until":null}"#;
        for good in [fault, r#"{"event":"booted","boot-id":"a"}"#, r#"{"change":"node","present":true}"#] {
            said(good).unwrap();
        }
        for wrong in [&fault.replace("null}", "null,\"more\":1}"), "{}", r#"{"event":"booted","boot":"a"}"#] {
            assert!(said(wrong).is_err(), "{wrong}");
        }
    }
}
