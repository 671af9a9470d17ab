use clap::{Command, CommandFactory as _};

use super::*;
use crate::cli::Cli;

/// Verbs that answer programs nothing: what they print is for another one, or they become another one.
const SILENT: [&str; 7] = [
    "completions",
    "config example",
    "config schema",
    "experiment show",
    "node console",
    "node cp",
    "node ssh",
];

/// Verbs that do something themselves, without those that only machines use.
fn leaves(command: &Command, path: &str, found: &mut Vec<String>) {
    let mut below = command.get_subcommands().filter(|verb| !verb.is_hide_set()).peekable();
    if below.peek().is_none() || (!path.is_empty() && !command.is_subcommand_required_set()) {
        found.push(path.to_owned());
    }
    for verb in below {
        leaves(verb, format!("{path} {}", verb.get_name()).trim_start(), found);
    }
}

#[test]
fn every_verb_s_answer_has_a_schema_and_every_schema_a_verb() {
    let mut found = Vec::new();
    leaves(&Cli::command(), "", &mut found);
    assert!(found.len() > 50 && found.iter().any(|verb| verb == "deploy"), "{found:?}");
    for verb in &found {
        let silent = SILENT.contains(&verb.as_str());
        assert_eq!(verb_of(verb).is_none(), silent, "{verb}");
    }
    for verb in verbs() {
        assert!(found.iter().any(|leaf| verb_of(leaf) == Some(verb)), "there is no verb `{verb}`");
    }
}

#[test]
fn every_schema_is_one_and_says_what_a_line_is() {
    let mut seen = BTreeSet::new();
    for name in names() {
        assert!(seen.insert(name), "two schemas are called {name}");
        let schema: Value = serde_json::from_str(&schema(name).unwrap()).unwrap();
        let id = schema["$id"].as_str().unwrap().to_owned();
        let mut compiler = boon::Compiler::new();
        compiler.add_resource(&id, schema.clone()).unwrap();
        compiler.compile(&id, &mut boon::Schemas::new()).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        if FILES.iter().any(|file| file.name == name) {
            continue;
        }
        let forms = ["anyOf", "oneOf"].into_iter().find_map(|among| schema[among].as_array().cloned());
        for form in forms.unwrap_or_else(|| vec![schema.clone()]) {
            assert_eq!(form["type"], "object", "{name}");
            assert!(form["properties"]["event"]["const"].is_string(), "{name}");
            assert!(form["required"].as_array().unwrap().contains(&json!("event")), "{name}");
            assert!(form["description"].is_string(), "{name}");
        }
    }
}

#[test]
fn a_verb_has_the_schema_of_its_group_unless_it_has_its_own() {
    assert_eq!(verb_of("fault node kill"), Some("fault"));
    assert_eq!(verb_of("fault link heal"), Some("fault link heal"));
    assert_eq!(verb_of("deploy libvirt"), Some("deploy"));
    assert_eq!(verb_of("deployment"), None);
    assert_eq!(schema("fault node kill"), schema("fault"));
    assert_eq!(schema("node ssh"), None);
}

#[test]
fn a_line_says_first_what_it_is() {
    assert_eq!(line(&Good::ANSWER).unwrap(), r#"{"event":"result","good":true}"#);
}
