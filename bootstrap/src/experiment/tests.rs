use std::time::Duration;

use serde_json::{Value, json};

use super::check::read;
use super::course::{Act, Course, Input};
use super::plan::Experiment;
use super::*;

mod conditions;
mod courses;
mod measured;

const GOOD: &str = r#"
name: try
title: A try
with: {victim: node2}
needs: {machines: 3, control-planes: 1}
probes:
  - {name: web, http: "http://[${address:${victim}}]/", every: 200ms}
steps:
  - create: {apiVersion: v1, kind: ConfigMap, metadata: {name: "try-${victim}"}, data: {a: "b"}}
  - probe: web
  - {name: plug, fault: "node kill ${victim}"}
  - {name: not-ready, wait: {node: "${victim}", is: NotReady}, within: 2m}
  - {name: power, undo: plug}
  - sleep: 10s
expect:
  - {from: plug, to: not-ready, at-most: 60s}
  - {probe: web, at-least: 50%}
"#;

fn good(text: &str) -> Experiment {
    read("try.yaml", text, &BTreeMap::new()).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn mistakes(text: &str) -> String {
    read("try.yaml", text, &BTreeMap::new()).unwrap_err().to_string()
}

#[test]
fn those_that_come_with_the_program_are_good() {
    for shipped in SHIPPED {
        let read = read(shipped.name, shipped.text, &BTreeMap::new());
        let experiment = read.unwrap_or_else(|mistakes| panic!("{}: {mistakes}", shipped.name));
        assert_eq!(experiment.name, shipped.name);
        assert!(!experiment.title.is_empty() && !experiment.about.is_empty(), "{}", shipped.name);
        assert!(!experiment.expectations.is_empty(), "{}", shipped.name);
        assert!(experiment.needs.machines >= 3, "{}", shipped.name);
        // What is asked and never begun brings nothing.
        for probe in &experiment.probes {
            let begins = |step: &plan::Step| matches!(&step.deed, plan::Deed::Begin { probe: name } if *name == probe.name);
            assert!(experiment.steps.iter().any(begins), "{}: {}", shipped.name, probe.name);
        }
    }
}

#[test]
fn names_stand_for_what_the_file_or_the_command_line_says() {
    let step = |experiment: &Experiment| experiment.steps[2].to_string();
    assert_eq!(step(&good(GOOD)), "node kill node2");
    assert_eq!(good(GOOD).steps[0].objects()[0]["metadata"]["name"], "try-node2");
    assert_eq!(good(GOOD).probes[0].url, "http://[${address:node2}]/");
    let set = BTreeMap::from([("victim".to_owned(), "node3".to_owned())]);
    assert_eq!(step(&read("try.yaml", GOOD, &set).unwrap()), "node kill node3");
    let set = BTreeMap::from([("villain".to_owned(), "node3".to_owned())]);
    let said = read("try.yaml", GOOD, &set).unwrap_err().to_string();
    assert!(said.contains("--set villain") && said.contains("has victim to set"), "{said}");
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let text = "\
name: try
titel: A try
steps:
  - {fault: node slay node1}
  - {name: a, fault: node kill node1, sleep: 5s}
  - {undo: b}
  - {wait: {node: node1, is: Sleepy}}
  - {wait: {pods: app=x, on: a, not-on: b, equals: c}}
  - {wait: {object: web, field: '{.status'}}
  - {sleep: soon}
  - {create: {kind: Pod}}
  - {probe: web}
  - {fault: fault list}
  - {fault: 'node kill ${victim}'}
  - {taint: node1}
  - {taint: node1 a=b:Never}
  - {wait: {object: a/b, field: .c, equals: d, contains: d}}
  - {wait: {object: a/b, field: .c}}
expect:
  - {from: a, to: b, at-most: 5s}
  - {probe: web}
";
    let said = mistakes(text);
    for (line, told) in [
        (2, "titel"),
        (4, "slay"),
        (5, "fault and sleep"),
        (6, "no step before this one is a fault or a taint named `b`"),
        (7, "`is` is Ready or NotReady"),
        (8, "`equals` belongs to object"),
        (8, "`on` and `not-on`"),
        (9, "`web` is no object"),
        (10, "`soon`"),
        (11, "an object has an apiVersion"),
        (12, "no probe `web`"),
        (13, "fault list"),
        (14, "`${victim}`"),
        (15, "`node1` is no taint of a node"),
        (16, "a=b:Never"),
        (17, "`equals` and `contains` are two things"),
        (18, "`equals` or `contains`"),
        (20, "no step is named `b`"),
        (21, "it expects nothing"),
    ] {
        let found =
            said.lines().any(|said| said.contains(&format!("try.yaml:{line}:")) && said.contains(told));
        assert!(found, "line {line}: {told}\n{said}");
    }
    assert!(mistakes("").contains("empty"));
    assert!(mistakes("name: x\n").contains("no `steps`"));
}

#[test]
fn words_of_faults_that_make_none_are_no_steps() {
    for words in ["list", "clear --all", "keep", "link heal a-b", "node thaw a", "--help", ""] {
        let said = mistakes(&format!("name: x\nsteps: [{{fault: '{words}'}}]\n"));
        assert!(said.contains("try.yaml:2:"), "{words}: {said}");
    }
}
