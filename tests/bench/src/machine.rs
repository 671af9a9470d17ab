//! The computer that figures were measured on, and who took part.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use tests::netns::Namespace;

/// Where the kernel is told how long a processor may take to wake up, for as long as the file is open
/// `[pm_qos_interface.rst]`.
const LATENCY: &str = "/dev/cpu_dma_latency";

/// Keeps processors from sleeping as long as it is there; none where the kernel cannot be told.
///
/// A server and a client that take turns wake each other up a hundred thousand times a second. Where a hypervisor has to
/// put a processor to sleep and to wake it, that is all that would be measured, and which of them it strikes is chance.
pub(crate) fn keep_awake() -> Option<File> {
    let mut file = File::options().write(true).open(LATENCY).ok()?;
    file.write_all(&0_i32.to_ne_bytes()).ok()?;
    Some(file)
}

/// Describes it.
pub(crate) fn describe(folder: &Path, versions: &[(&'static str, String)], awake: bool) -> Result<Value> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let virtualised = cpuinfo.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor"));
    let machine = Namespace::start("bench-describe")?;
    let disk = machine.run("findmnt", &["-n", "-o", "FSTYPE", "-T", &folder.to_string_lossy()])?;
    Ok(json!({
        "cpu": model.map(|(_, model)| model),
        "cores": std::thread::available_parallelism()?.get(),
        "virtual": virtualised,
        "kept_awake": awake,
        "tcp": crate::cable::CONGESTION_CONTROL,
        "kernel": read("/proc/sys/kernel/osrelease"),
        "load_before": read("/proc/loadavg"),
        "file_system": disk.trim(),
        "versions": versions.iter().map(|(package, version)| (*package, version.as_str())).collect::<std::collections::BTreeMap<_, _>>(),
    }))
}
