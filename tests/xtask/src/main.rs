//! `cargo xtask`: what a laptop and CI both run.
//!
//! It uses nothing of the house, so that it is built in seconds and can say what is missing before anything
//! else is compiled.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

mod deps;
mod fuzz;
mod kubernetes;

const HELP: &str = "\
cargo xtask ci [--install-deps]     what CI runs: format, lints, docs, unit, property and network-namespace tests,
                                    real firmware, then a mesh of virtual machines
cargo xtask vm [--install-deps]     that mesh alone: seed and two machines in a line, then teardown
cargo xtask vm book                 what the book shows on a mesh, faults inside its nodes, another mesh beside it: an hour
cargo xtask vm control-planes       three control planes in a ring, each of which dies in turn, the seed included: two hours
cargo xtask vm triangle             three control planes in a ring of three, as much as two processors can emulate: two hours
cargo xtask vm grid                 README's mesh of five, its cables cut and its machines' plugs pulled: an hour
cargo xtask kubernetes              what needs an API server, its controllers and etcd, without machines; uses what `vm` made
cargo xtask firmware [--install-deps]
                                    the firmware of x86-64 and arm64, iPXE and GRUB, from power-on to their boot file
cargo xtask bench routing           the routing protocols compared (tests/README.md)
cargo xtask bench netboot [--quick] [FILE]
                                    the netboot servers beside Kea, dnsmasq, tftpd-hpa and nginx, figures as
                                    JSON to FILE (tests/README.md); --quick says only whether it works
cargo xtask bench mirrors [--quick] [FILE]
                                    the registry mirrors beside docker-registry as a proxy, likewise
cargo xtask docs                    makes the pages and the schemas of docs/ that are made from the program
cargo xtask fuzz [TARGET] [--seconds N]
                                    looks for octets that break a promise, for 600 s or N in each target of
                                    tests/fuzz or in one; CI replays what was found
--install-deps installs the Debian packages that a lane needs; without it they are named";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let install = arguments.iter().any(|argument| argument == "--install-deps");
    let verbs: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|argument| *argument != "--install-deps").collect();
    let done = match verbs.as_slice() {
        ["ci"] => deps::ready(install).and_then(|()| ci(install)),
        ["vm"] => deps::ready(install).and_then(|()| vm("line::")),
        ["kubernetes"] => deps::ready(install).and_then(|()| kubernetes()),
        ["firmware"] => deps::ready(install).and_then(|()| firmware()),
        ["vm", "book"] => deps::ready(install).and_then(|()| vm("book::")),
        ["vm", "control-planes"] => deps::ready(install).and_then(|()| vm("control_planes::any_one")),
        ["vm", "triangle"] => deps::ready(install).and_then(|()| vm("control_planes::three")),
        ["vm", "grid"] => deps::ready(install).and_then(|()| vm("grid::")),
        ["docs"] => docs(),
        ["fuzz", words @ ..] => fuzz::run(words),
        ["bench", "routing"] => deps::ready(install)
            .and_then(|()| on_request("routing protocols", "it", "routing::", &["--no-capture"])),
        ["bench", "netboot", words @ ..] => bench(&[], words),
        ["bench", "mirrors", words @ ..] => bench(&["--mirrors"], words),
        _ => {
            say(HELP);
            return ExitCode::from(64);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("xtask: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn ci(install: bool) -> Result<(), String> {
    step("format", cargo().args(["fmt", "--all", "--check"]))?;
    let deny = ["--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    step("lints", cargo().arg("clippy").args(deny))?;
    let docs = ["--workspace", "--no-deps", "--document-private-items", "--locked"];
    step("docs", cargo().arg("doc").args(docs).env("RUSTDOCFLAGS", "-D warnings"))?;
    // The tests drive the real binary; nextest builds only what the tests import. All at once, for cargo builds crates
    // anew whose features another choice of packages changes.
    step("build", cargo().args(["build", "--locked", "--workspace", "--all-targets"]))?;
    // What the product itself needs it can install itself.
    let mut product = Command::new(target().join("debug/meshboot"));
    step("virtual machines' tools", product.arg("deps").args(install.then_some("--install-deps")))?;
    // Errors say themselves what was tried, on what: a trace to each would hide that.
    let tests = ["nextest", "run", "--workspace", "--locked", "--no-fail-fast"];
    step("tests", cargo().args(tests).env("RUST_LIB_BACKTRACE", "0"))?;
    firmware()?;
    vm("line::")
}

/// Real servers, of the binaries that machines are made of.
fn kubernetes() -> Result<(), String> {
    let folder = kubernetes::binaries()?;
    step("build", cargo().args(["build", "--locked", "--workspace", "--all-targets"]))?;
    let run = ["nextest", "run", "--locked", "--package", "tests", "--test", "it", "--run-ignored", "only"];
    let filter =
        ["--no-fail-fast", "-E", "test(/^(control_planes|fault::experiment|join|store|timeline)::/)"];
    let tests = &mut cargo();
    tests.args(run).args(filter).env("MESHBOOT_TEST_KUBERNETES", folder).env("RUST_LIB_BACKTRACE", "0");
    step("Kubernetes", tests)
}

fn vm(mesh: &str) -> Result<(), String> {
    // As `./deploy` builds it.
    step("release binary", cargo().args(["build", "--locked", "--release", "--bin", "meshboot"]))?;
    on_request("virtual machines", "e2e", mesh, &["--no-capture"])
}

/// The test that compares them writes them if it is told to.
fn docs() -> Result<(), String> {
    let run = ["test", "--locked", "--package", "tests", "--test", "it", "docs::generated"];
    step("pages", cargo().args(run).env("MESHBOOT_DOCS_WRITE", "1"))
}

/// Two computers at a time, each with a processor of its own; what they say of the time is shown.
fn firmware() -> Result<(), String> {
    on_request("real firmware", "it", "netboot::uefi::", &["--no-fail-fast", "--success-output", "immediate"])
}

/// Tests that run only when they are asked for.
fn on_request(name: &str, binary: &str, filter: &str, how: &[&str]) -> Result<(), String> {
    let run = ["nextest", "run", "--locked", "--package", "tests", "--run-ignored", "only"];
    step(
        name,
        cargo().args(run).args(["--test", binary]).args(how).arg(filter).env("RUST_LIB_BACKTRACE", "0"),
    )
}

/// It names itself what it lacks: most of that are servers, and those are not for us to install.
fn bench(which: &[&str], words: &[&str]) -> Result<(), String> {
    // As it is deployed.
    step("release binary", cargo().args(["build", "--locked", "--release", "--bin", "meshboot"]))?;
    step("benchmark", cargo().args(["build", "--locked", "--release", "--package", "tests-bench"]))?;
    // Where it was started, for the file is meant from there.
    let status = Command::new(target().join("release/bench")).args(which).args(words).status();
    let status = status.map_err(|error| format!("cannot start the benchmark: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("the benchmark failed: {status}")) }
}

fn step(name: &str, command: &mut Command) -> Result<(), String> {
    say(&format!("== {name}"));
    let start = Instant::now();
    run(command)?;
    say(&format!("== {name}: {} s", start.elapsed().as_secs()));
    Ok(())
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status =
        command.current_dir(root()).status().map_err(|error| format!("cannot start {program}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program} failed: {status}")) }
}

fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| OsStr::new("cargo").to_owned()))
}

/// Where cargo puts what it builds for the machines' own target.
fn target() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join(format!("{}-unknown-linux-gnu", env::consts::ARCH))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[expect(clippy::print_stderr, reason = "this is the edge: a person reads it")]
fn say(text: &str) {
    eprintln!("{text}");
}
