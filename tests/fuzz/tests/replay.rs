//! Every input of the corpus, once more: what was found stays found.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test says where it was when it could not go on"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tests_fuzz::TARGETS;

/// It is a part of the sources and not the fuzzer's memory.
const MOST: usize = 300 * 1024;

#[test]
fn dhcp6() {
    replay("dhcp6");
}

#[test]
fn link() {
    replay("link");
}

#[test]
fn tftp() {
    replay("tftp");
}

#[test]
fn http() {
    replay("http");
}

#[test]
fn ignition() {
    replay("ignition");
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let folders: BTreeSet<String> = paths(&corpus())
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(folders, targets);
    let inputs = folders.iter().flat_map(|folder| paths(&corpus().join(folder)));
    let octets: usize = inputs.map(|path| fs::read(path).unwrap().len()).sum();
    assert!(octets < MOST, "{octets} octets: `cargo xtask fuzz` makes it smaller");
}

#[test]
fn nothing_and_anything_can_be_read() {
    for target in TARGETS {
        for len in [0, 1, 2, 3, 300] {
            for octet in [0, 1, 0x7f, 0xff] {
                (target.run)(&vec![octet; len]);
            }
        }
    }
}

fn replay(name: &str) {
    let target = TARGETS.into_iter().find(|target| target.name == name).unwrap();
    let inputs = paths(&corpus().join(name));
    assert!(!inputs.is_empty(), "the corpus of {name} is empty");
    for path in inputs {
        // The last one that is named is the one that broke something.
        eprintln!("{}", path.display());
        (target.run)(&fs::read(path).unwrap());
    }
}

fn paths(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}
