//! The computer that figures were measured on, and who took part.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use tests::netns::Namespace;

/// Describes it.
pub(crate) fn describe(folder: &Path, versions: &[(&'static str, String)]) -> Result<Value> {
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
        "kernel": read("/proc/sys/kernel/osrelease"),
        "load_before": read("/proc/loadavg"),
        "file_system": disk.trim(),
        "versions": versions.iter().map(|(package, version)| (*package, version.as_str())).collect::<std::collections::BTreeMap<_, _>>(),
    }))
}
