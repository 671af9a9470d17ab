//! `cargo xtask fuzz`: libFuzzer on the stable toolchain, and a corpus that stays small.
//!
//! What the compiler is told to count is what `-Zsanitizer-coverage` would tell it, by LLVM's own names. There is no
//! address sanitizer on stable; what is fuzzed forbids unsafe code.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{cargo, root, say, step};

/// The folders of `tests/fuzz/corpus`.
const TARGETS: [&str; 5] = ["dhcp6", "link", "tftp", "http", "ignition"];
/// By which the fuzzer is told its target.
const TARGET: &str = "MESHBOOT_FUZZ_TARGET";
const DEFAULT_SECONDS: u32 = 600;
const FLAGS: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// Every input is short, is done in much less than this time, and needs little memory.
const LIMITS: [&str; 3] = ["-max_len=4096", "-timeout=60", "-rss_limit_mb=1024"];

/// Runs the targets that are named, or all, each for some time, and renews the corpus.
pub(crate) fn run(words: &[&str]) -> Result<(), String> {
    let (targets, seconds) = read(words)?;
    let folder = root().join("target/fuzz");
    let build = [
        "build",
        "--locked",
        "--package",
        "tests-fuzz",
        "--features",
        "libfuzzer",
        "--profile",
        "fuzz",
        "--target-dir",
    ];
    step("fuzzer", cargo().args(build).arg(&folder).env("RUSTFLAGS", FLAGS.join(" ")))?;
    let fuzzer = folder.join(format!("{}-unknown-linux-gnu/fuzz/fuzz", env::consts::ARCH));
    let mut broken = Vec::new();
    for target in targets {
        if fuzz(&fuzzer, &folder, target, seconds).is_err() {
            broken.push(target);
        }
        merge(&fuzzer, &folder, target)?;
    }
    if broken.is_empty() {
        return Ok(());
    }
    let found = folder.join("found");
    Err(format!(
        "a promise is broken: {}. The inputs are in {}; give each a name that says what it is, put it into \
         tests/fuzz/corpus, and mend what is broken",
        broken.join(", "),
        found.display()
    ))
}

fn read<'a>(words: &[&'a str]) -> Result<(Vec<&'a str>, u32), String> {
    let (mut targets, mut seconds) = (Vec::new(), DEFAULT_SECONDS);
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        match word {
            "--seconds" => {
                let number = words.next().and_then(|number| number.parse().ok());
                seconds = number.ok_or("--seconds wants a number")?;
            }
            target if TARGETS.contains(&target) => targets.push(target),
            other => return Err(format!("there is no fuzz target `{other}`, but {}", TARGETS.join(", "))),
        }
    }
    if targets.is_empty() {
        targets.extend(TARGETS);
    }
    Ok((targets, seconds))
}

/// Looks for octets that break a promise, from those that the corpus has and those that were found before.
fn fuzz(fuzzer: &Path, folder: &Path, target: &str, seconds: u32) -> Result<(), String> {
    let (grown, found) = (folder.join("grown").join(target), folder.join("found").join(target));
    make(&grown)?;
    make(&found)?;
    let mut prefix = OsString::from("-artifact_prefix=");
    prefix.push(found.join(""));
    let mut command = Command::new(fuzzer);
    command.env(TARGET, target).args(LIMITS).arg(format!("-max_total_time={seconds}"));
    command.args(["-print_final_stats=1", "-use_value_profile=1"]).arg(prefix);
    let words = source().join(format!("{target}.dict"));
    if words.exists() {
        let mut dictionary = OsString::from("-dict=");
        dictionary.push(words);
        command.arg(dictionary);
    }
    step(&format!("fuzz {target}"), command.arg(grown).arg(corpus(target)))
}

/// Renews the corpus: the smallest inputs that go everywhere where any input went. Those that somebody gave a name stay.
fn merge(fuzzer: &Path, folder: &Path, target: &str) -> Result<(), String> {
    let (kept, before) = (folder.join("kept").join(target), folder.join("before").join(target));
    for folder in [&kept, &before] {
        // Absent, as a rule.
        let _old = fs::remove_dir_all(folder);
        make(folder)?;
    }
    let entries = fs::read_dir(corpus(target)).map_err(|error| format!("no corpus of {target}: {error}"))?;
    for entry in entries.flatten() {
        let to = if is_digest(&entry.file_name().to_string_lossy()) { &before } else { &kept };
        fs::copy(entry.path(), to.join(entry.file_name())).map_err(|error| error.to_string())?;
    }
    let mut command = Command::new(fuzzer);
    // Which ways were gone counts and not how often, or there would be hundreds.
    command.env(TARGET, target).args(LIMITS).args(["-set_cover_merge=1", "-use_counters=0"]);
    command.arg(&kept).arg(&before).arg(folder.join("grown").join(target));
    step(&format!("corpus of {target}"), &mut command)?;
    fs::remove_dir_all(corpus(target)).map_err(|error| error.to_string())?;
    make(&corpus(target))?;
    let (mut files, mut octets) = (0, 0);
    for entry in fs::read_dir(&kept).map_err(|error| error.to_string())?.flatten() {
        octets += fs::copy(entry.path(), corpus(target).join(entry.file_name()))
            .map_err(|error| error.to_string())?;
        files += 1;
    }
    say(&format!("== corpus of {target}: {files} files, {octets} octets"));
    Ok(())
}

/// The name that libFuzzer gives an input.
fn is_digest(name: &str) -> bool {
    name.len() == 40 && name.bytes().all(|octet| octet.is_ascii_hexdigit())
}

fn corpus(target: &str) -> PathBuf {
    source().join("corpus").join(target)
}

fn source() -> PathBuf {
    root().join("tests/fuzz")
}

fn make(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))
}
