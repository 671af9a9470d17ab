//! Pages that are made from the program: `cargo xtask docs` writes them, and a test looks whether they are what it would write.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use bootstrap::answers::{self, EVENTS, names, verbs};
use bootstrap::cli::Cli;
use bootstrap::meshfile::schema;
use bootstrap::settings::KEYS;
use clap::{Arg, Command, CommandFactory as _};
use serde_json::Value;
use tests::book::{listed, root};

/// With this in the environment the pages are written.
const WRITE: &str = "MESHBOOT_DOCS_WRITE";

const MADE: &str = "<!-- `cargo xtask docs` makes this page from the program. -->\n";

/// Where the schemas of answers are.
const SCHEMAS: &str = "docs/schema";

#[test]
fn pages_are_what_the_program_says() {
    let pages = [
        ("commands", commands()),
        ("answers", answers_of_verbs()),
        ("settings", settings()),
        ("mesh-file-reference", mesh_file()),
    ];
    for (name, text) in pages {
        is_made(&format!("docs/src/{name}.md"), &text);
    }
}

#[test]
fn schemas_are_what_the_program_prints() {
    let schemas: BTreeMap<String, String> =
        names().map(|name| (published(name), format!("{}\n", answers::schema(name).unwrap()))).collect();
    fs::create_dir_all(root().join(SCHEMAS)).unwrap();
    for old in listed(Path::new(SCHEMAS)) {
        let path = old.display().to_string();
        if !schemas.contains_key(&path) && std::env::var_os(WRITE).is_some() {
            fs::remove_file(root().join(&path)).unwrap();
        } else {
            assert!(schemas.contains_key(&path), "{path} is the schema of nothing: `cargo xtask docs`");
        }
    }
    for (path, text) in schemas {
        is_made(&path, &text);
    }
}

/// Where a schema is published.
pub(crate) fn published(name: &str) -> String {
    if name == EVENTS || verbs().contains(name) {
        format!("{SCHEMAS}/{}.json", name.replace(' ', "-"))
    } else {
        format!("docs/{name}.schema.json")
    }
}

/// A file is the text that the program makes; with [`WRITE`] it becomes that.
fn is_made(path: &str, text: &str) {
    let file = root().join(path);
    if std::env::var_os(WRITE).is_some() {
        fs::write(&file, text).unwrap();
    }
    let there = fs::read_to_string(&file).unwrap_or_default();
    let other = there.lines().zip(text.lines()).find(|(there, wanted)| there != wanted);
    assert!(there == text, "{path} is not what `cargo xtask docs` makes: {other:?}");
}

/// What every verb answers programs.
fn answers_of_verbs() -> String {
    let mut page = format!("# Answers for programs\n\n{MADE}\n{}", include_str!("answers.md"));
    page.push_str("\n## By verb\n\n| verb | `event` | what it is | schema |\n|---|---|---|---|\n");
    for verb in verbs() {
        let schema: Value = serde_json::from_str(&answers::schema(verb).unwrap()).unwrap();
        for (event, about) in forms(&schema) {
            let file = published(verb).rsplit('/').next().unwrap_or_default().to_owned();
            let _infallible =
                writeln!(page, "| `{verb}` | `{event}` | {} | `{file}` |", cell(&sentence(&about)));
        }
    }
    page.push_str("\n## What any verb may say before\n\n| `event` | what it is | with |\n|---|---|---|\n");
    let schema: Value = serde_json::from_str(&answers::schema(EVENTS).unwrap()).unwrap();
    for form in schema["oneOf"].as_array().unwrap() {
        let fields = form["properties"].as_object().unwrap().iter().filter(|(name, _)| *name != "event");
        let fields: Vec<String> =
            fields.map(|(name, field)| format!("`{name}`: {}", description(field))).collect();
        let event = form["properties"]["event"]["const"].as_str().unwrap();
        let _infallible =
            writeln!(page, "| `{event}` | {} | {} |", cell(&description(form)), cell(&fields.join(" ")));
    }
    page
}

/// What an answer may say that it is, and what that is.
fn forms(schema: &Value) -> Vec<(String, String)> {
    let forms = schema["anyOf"].as_array().cloned().unwrap_or_else(|| vec![schema.clone()]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    forms
        .iter()
        .map(|form| (text(&form["properties"]["event"]["const"]), text(&form["description"])))
        .collect()
}

/// Every verb that people use.
fn commands() -> String {
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let mut page = format!(
        "# Commands\n\n{MADE}\nThe same as pages for man(1): `meshboot man DIR`. For the shell to complete words: `meshboot \
         completions bash >/etc/bash_completion.d/meshboot`, and likewise for zsh, fish, elvish and powershell.\n"
    );
    verb(&program, &mut page);
    page
}

// Writing to a String cannot fail.
fn verb(command: &Command, page: &mut String) {
    let path = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let is_program = !path.contains(' ');
    let about = command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string);
    let _infallible = writeln!(page, "\n## {path}\n\n{}\n", sentence(&about.unwrap_or_default()));
    let below: Vec<&Command> = command.get_subcommands().filter(|verb| !verb.is_hide_set()).collect();
    if !is_program {
        let usage = command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage:").split_whitespace().collect::<Vec<_>>().join(" ");
        let _infallible = writeln!(page, "```text\n{usage}\n```");
    }
    if !is_program && !below.is_empty() {
        page.push('\n');
    }
    for verb in &below {
        let path = verb.get_bin_name().unwrap_or_default();
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        let _infallible = writeln!(page, "- [`{path}`](#{}): {}", path.replace(' ', "-"), cell(&about));
    }
    let arguments = command.get_arguments().filter(|argument| {
        let is_for_help = matches!(argument.get_id().as_str(), "help" | "version");
        !argument.is_hide_set() && !is_for_help && (is_program || !argument.is_global_set())
    });
    let rows: Vec<String> = arguments.map(row).collect();
    if is_program {
        page.push_str("\nOptions of every command:\n");
    }
    if !rows.is_empty() {
        let _infallible = writeln!(page, "\n| | what it is |\n|---|---|\n{}", rows.concat().trim_end());
    }
    if let Some(after) = command.get_after_help() {
        let _infallible = writeln!(page, "\n{after}");
    }
    for below in below {
        verb(below, page);
    }
}

fn row(argument: &Arg) -> String {
    let values = argument.get_value_names().unwrap_or_default().iter();
    let values: Vec<&str> = values.map(clap::builder::Str::as_str).collect();
    let takes = argument.get_action().takes_values();
    let name = match (argument.get_short(), argument.get_long()) {
        (None, None) => values.join(" "),
        (short, long) => {
            let names = [short.map(|short| format!("-{short}")), long.map(|long| format!("--{long}"))];
            let names: Vec<String> = names.into_iter().flatten().collect();
            let value = if takes { format!(" {}", values.join(" ")) } else { String::new() };
            format!("{}{value}", names.join(", "))
        }
    };
    let mut meaning = sentence(&argument.get_help().map(ToString::to_string).unwrap_or_default());
    let possible: Vec<String> = if takes {
        argument.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect()
    } else {
        Vec::new()
    };
    if !possible.is_empty() {
        meaning.push_str(&format!(" One of {}.", possible.join(", ")));
    }
    let defaults: Vec<String> =
        argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
    if takes && !defaults.is_empty() {
        meaning.push_str(&format!(" Default: {}.", defaults.join(", ")));
    }
    if let Some(variable) = argument.get_env() {
        meaning.push_str(&format!(" Variable: `{}`.", variable.to_string_lossy()));
    }
    format!("| `{}` | {} |\n", cell(&name), cell(&meaning))
}

/// Every setting.
fn settings() -> String {
    let mut page = format!(
        "# Settings\n\n{MADE}\n\
         A site's settings are one file of TOML: `meshboot.toml` in the directory where a command is run, or the one that \
         `--settings` names. `meshboot config example` writes it with every default, `meshboot site new` one with addresses \
         that are the site's own. A variable overrides a line: `MESHBOOT_LIBVIRT_MEMORY=4GiB`; an option of the command line \
         overrides both. All mistakes are told at once, by `meshboot config check` and by every command that reads them. A \
         size is a number with KiB, MiB, GiB or TiB, a time one with ms, s, m or h. In a variable commas divide a list.\n\n\
         They are read when something is made: by `deploy libvirt`, `deploy usb`, `image`, `deps` and `config check`. \
         `deploy -f` has them from the mesh's file, over those that `--settings` names. What was deployed keeps its own in \
         `cluster/settings.toml`, and every other verb goes by these.\n\n\
         ```sh cli\nmeshboot site new\nmeshboot config check\nMESHBOOT_LIBVIRT_MEMORY=lots meshboot config check # exit 78\n\
         ```\n\n\
         ```text cli\nmeshboot: the settings are wrong: libvirt.memory: `lots` is no size: …\n```\n"
    );
    let mut section = "";
    for key in KEYS {
        let (of, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if of != section {
            section = of;
            let _infallible =
                writeln!(page, "\n## {section}\n\n| setting | what it is | default |\n|---|---|---|");
        }
        let default = key
            .default
            .map_or_else(|| format!("none; for example `{}`", key.example), |default| format!("`{default}`"));
        let _infallible = writeln!(page, "| `{name}` | {} | {} |", cell(key.meaning), cell(&default));
    }
    page
}

/// Every field of the file of a mesh.
fn mesh_file() -> String {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    let mut page = format!(
        "# The file of a mesh\n\n{MADE}\n[What it is for](mesh-file.md). `meshboot config schema` prints it as a JSON Schema. \
         What is not here is a mistake.\n"
    );
    object("The file", &schema, &mut page);
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        object(name, definition, &mut page);
    }
    page
}

fn object(name: &str, definition: &Value, page: &mut String) {
    let _infallible = writeln!(page, "\n## {name}\n\n{}", description(definition));
    let Some(fields) = definition["properties"].as_object() else {
        let _infallible = writeln!(page, "\n{}", sentence(&kind(definition)));
        return;
    };
    let required = definition["required"].as_array().cloned().unwrap_or_default();
    let _infallible = writeln!(page, "\n| field | | what it is |\n|---|---|---|");
    for (name, field) in fields {
        let kind = if name == "settings" { "[settings](settings.md)".to_owned() } else { kind(field) };
        let must = if required.iter().any(|one| one == name) { "Required. " } else { "" };
        let _infallible =
            writeln!(page, "| `{name}` | {} | {must}{} |", cell(&kind), cell(&description(field)));
    }
}

fn description(definition: &Value) -> String {
    sentence(definition["description"].as_str().unwrap_or_default())
}

/// What a value may be, for people.
fn kind(definition: &Value) -> String {
    let all =
        |among: &Value| among.as_array().into_iter().flatten().map(kind).collect::<Vec<_>>().join(" or ");
    if let Some(name) = definition["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for among in ["anyOf", "oneOf"] {
        if definition[among].is_array() {
            return all(&definition[among]);
        }
    }
    if let Some(value) = definition["const"].as_str() {
        return format!("`{value}`");
    }
    if let Some(values) = definition["enum"].as_array() {
        let words = values.iter().map(|value| format!("`{}`", value.to_string().trim_matches('"')));
        return words.collect::<Vec<_>>().join(" or ");
    }
    let types = match &definition["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
            one.as_str().into_iter().collect::<Vec<_>>()
        }
    };
    let names = types.into_iter().map(|name| match (name, &definition["minimum"], &definition["maximum"]) {
        ("string", ..) => "text".to_owned(),
        ("boolean", ..) => "true or false".to_owned(),
        ("integer", Value::Number(least), Value::Number(most)) => format!("{least} to {most}"),
        ("integer", ..) => "number".to_owned(),
        ("array", ..) => format!("list of {}", kind(&definition["items"])),
        ("object", ..) => format!("names with {}", kind(&definition["additionalProperties"])),
        (other, ..) => other.to_owned(),
    });
    names.collect::<Vec<_>>().join(" or ")
}

/// Text with a full stop at its end.
fn sentence(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() || text.ends_with(['.', '?', '!']) { text } else { format!("{text}.") }
}

/// Text that may stand in a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}
