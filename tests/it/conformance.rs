//! The tables of what the netboot protocols demand name tests that there are.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const TABLES: &str = "netboot.md";
/// Where the tests are that it may name.
const SOURCES: [&str; 3] = ["netboot", "bootstrap/src", "tests/it"];

#[test]
fn every_clause_is_proved_by_a_test_that_there_is() {
    let tests = tests();
    let table = fs::read_to_string(root().join("tests").join(TABLES)).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().filter_map(cells).collect();
    assert!(rows.len() > 100, "{} clauses", rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        let [clause, _, proof] = row.as_slice() else {
            wrong.push(format!("a row of {} cells: {row:?}", row.len()));
            continue;
        };
        let named: Vec<&str> = proof.split('`').skip(1).step_by(2).collect();
        if named.is_empty() {
            wrong.push(format!("{clause}: no test is named"));
        }
        let absent = named.iter().filter(|name| !tests.contains(**name));
        wrong.extend(absent.map(|name| format!("{clause}: there is no test `{name}`")));
    }
    assert!(wrong.is_empty(), "tests/{TABLES}:\n{}", wrong.join("\n"));
}

#[test]
fn the_tables_can_be_found() {
    let index = fs::read_to_string(root().join("tests/README.md")).unwrap();
    assert!(index.contains(&format!("]({TABLES})")), "tests/README.md does not name {TABLES}");
}

/// The cells of a table's row that is neither its head nor the line below.
fn cells(line: &str) -> Option<Vec<&str>> {
    let row = line.strip_prefix('|')?.trim_end().strip_suffix('|')?;
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    let is_head = matches!(cells.first(), Some(&("clause" | "client")))
        || cells.iter().all(|cell| cell.starts_with("---"));
    (!is_head).then_some(cells)
}

/// The names of all functions that are tests.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for folder in SOURCES {
        collect(&root().join(folder), &mut names);
    }
    names
}

fn collect(path: &Path, names: &mut BTreeSet<String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), names);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        let text = fs::read_to_string(path).unwrap();
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")
                && is_test
            {
                names.extend(rest.split('(').next().map(str::to_owned));
            }
            // Other attributes may stand between.
            let begins = line == "#[test]" || line.starts_with("#[tokio::test");
            is_test = begins || (is_test && line.starts_with("#["));
        }
    }
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
