//! What is refused before anything is made.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;
use hardware::libvirt::RemoveError;
use hardware::process::RunError;
use hardware::{Libvirt, host};

use crate::deployment::{Deployment, Directory, Wanted};
use crate::exit::{Code, Failure, OrFail as _};
use crate::teardown;
use crate::verbs::Context;

const GIB: u64 = 1 << 30;
/// The seed's disk with all images and some state.
const SEED_DISK: u64 = 3 * GIB;
/// What a node writes on its disk: unpacked container images and logs.
const NODE_DISK: u64 = 2 * GIB;
/// Packages, sources and images in the cache, before they are there, and Kubernetes while it is built.
const EMPTY_CACHE: u64 = 4 * GIB;

/// Where the kernel says whether IPv6 is off.
const IPV6_SWITCH: &str = "/proc/sys/net/ipv6/conf/all/disable_ipv6";

/// IPv6, and memory and disk for all machines.
pub(crate) fn resources(context: &Context, wanted: &Wanted) -> Result<(), Failure> {
    if std::fs::read_to_string(IPV6_SWITCH).map_or(true, |text| text.trim() != "0") {
        let failure =
            Failure::new(Code::Unavailable, "IPv6 is off on this computer, and a mesh has nothing else");
        return Err(failure.next("sysctl net.ipv6.conf.all.disable_ipv6=0"));
    }
    let sizes: Vec<u32> = wanted.machines.iter().map(|machine| machine.memory_mib).collect();
    memory(&sizes)?;
    disk(context, wanted.machines.len())
}

/// Memory for the seed and so many MiB for each of the machines after it.
fn memory(sizes: &[u32]) -> Result<(), Failure> {
    let free =
        host::available_memory_mib().context("cannot tell how much memory is free").or_fail(Code::Io)?;
    let fit = host::how_many_fit(free, sizes.iter().copied());
    if fit == sizes.len() {
        return Ok(());
    }
    let fits = match fit {
        0 => "not even the seed fits".to_owned(),
        1 => "only the seed fits".to_owned(),
        fit => format!("the seed and {} of them would fit", fit - 1),
    };
    let (seed, nodes) = (sizes.first().copied().unwrap_or_default(), sizes.get(1..).unwrap_or_default());
    let each = match (nodes.iter().min(), nodes.iter().max()) {
        (Some(least), Some(most)) if least == most => format!("{least} MiB"),
        (Some(least), Some(most)) => format!("{least} to {most} MiB"),
        (None, _) | (_, None) => "no MiB".to_owned(),
    };
    let message = format!(
        "there is not enough memory for {} machines of {each} and a seed of {seed} MiB: {free} MiB are free, {fits}",
        nodes.len()
    );
    let next = match fit {
        0 | 1 => "give each less with --memory and --seed-memory, or free some".to_owned(),
        fit => format!("./deploy libvirt {}, or less memory for each with --memory", fit - 1),
    };
    Err(Failure::new(Code::Unavailable, message).next(next))
}

/// Memory and disk for one machine more.
pub(crate) fn room_for_another(context: &Context, memory_mib: u32) -> Result<(), Failure> {
    let free =
        host::available_memory_mib().context("cannot tell how much memory is free").or_fail(Code::Io)?;
    if host::how_many_fit(free, [memory_mib]) == 0 {
        let message =
            format!("there is not enough memory for a machine of {memory_mib} MiB: {free} MiB are free");
        return Err(Failure::new(Code::Unavailable, message).next("give it less with --memory, or free some"));
    }
    room(context.directory.path(), NODE_DISK, "the machine's disk")
}

fn disk(context: &Context, machines: usize) -> Result<(), Failure> {
    let (cluster, cache) = (context.directory.path(), context.cache.as_path());
    let images = if cache.join("images").is_dir() { 0 } else { EMPTY_CACHE };
    let nodes = u64::try_from(machines.saturating_sub(1)).unwrap_or(u64::MAX);
    let disks = NODE_DISK.saturating_mul(nodes).saturating_add(SEED_DISK);
    let wants = if device(cluster) == device(cache) {
        vec![(cluster, disks.saturating_add(images), "the machines' disks and the images")]
    } else {
        vec![(cluster, disks, "the machines' disks"), (cache, images, "the images")]
    };
    wants.into_iter().try_for_each(|(path, want, what)| room(path, want, what))
}

fn room(path: &Path, want: u64, what: &str) -> Result<(), Failure> {
    let free = host::free_disk(path)
        .with_context(|| format!("cannot tell how much room there is for {}", path.display()))
        .or_fail(Code::Io)?;
    if free >= want {
        return Ok(());
    }
    let message = format!(
        "there is no room for {what} in {}: {:.1} GiB are wanted, {:.1} GiB are free",
        path.display(),
        gib(want),
        gib(free)
    );
    let next = "free some, or choose other places with --cluster and --cache";
    Err(Failure::new(Code::CannotCreate, message).next(next))
}

fn gib(octets: u64) -> f64 {
    // MiB of any disk are few enough for an exact f64.
    let mib = u32::try_from(octets >> 20).unwrap_or(u32::MAX);
    f64::from(mib) / 1024.0
}

/// The file system of a path or of the nearest directory above that exists.
fn device(path: &Path) -> Option<u64> {
    path.ancestors().find_map(|path| path.metadata().ok()).map(|metadata| metadata.dev())
}

/// No deployment is here. Files alone, of one that was interrupted before it made anything, are removed.
pub(crate) async fn no_deployment(directory: &Directory, libvirt: &Libvirt) -> Result<(), Failure> {
    let exists = |message: String| {
        Err(Failure::new(Code::CannotCreate, message).next("./teardown, then deploy again"))
    };
    let found = match libvirt.survey().await {
        Ok(found) => found,
        // It does not run, so nothing of it does.
        Err(RemoveError::Survey(RunError::Failed { .. } | RunError::Missing { .. })) => Vec::new(),
        Err(error) => return Err(error).or_fail(Code::Unavailable),
    };
    let record = directory.load();
    let id = record.as_ref().ok().and_then(Option::as_ref).map(|known| known.id);
    let owner = directory.owner(id.unwrap_or(hardware::DeploymentId(uuid::Uuid::nil())));
    if let Some(object) = found.iter().find(|object| owner.owns(&object.owner)) {
        let (kind, name, place) = (object.kind, &object.name, directory.text());
        return exists(format!("a deployment exists in {place}: libvirt has its {kind} {name}"));
    }
    match record {
        Ok(Some(Deployment { stick: Some(stick), complete: true, .. })) => {
            let place = directory.text();
            let message = format!("{place} has the keys of the seed on {}", stick.display());
            let next = "keep them: choose another place with --cluster, or move the directory away";
            Err(Failure::new(Code::CannotCreate, message).next(next))
        }
        Ok(Some(known)) if known.complete => {
            exists(format!("a deployment exists in {}, and libvirt has lost its machines", directory.text()))
        }
        Ok(Some(_)) => teardown::remove(directory, &crate::progress::Reporter::silent()).await.map(drop),
        Err(error) => exists(format!("{error:#}")),
        Ok(None) if is_empty(directory.path()) => Ok(()),
        Ok(None) => {
            let message = format!("{} is there, and no deployment made it", directory.text());
            Err(Failure::new(Code::CannotCreate, message).next("choose another place with --cluster"))
        }
    }
}

fn is_empty(path: &Path) -> bool {
    std::fs::read_dir(path).map_or_else(|_| !path.exists(), |mut entries| entries.next().is_none())
}

/// No other deployment is on this computer: it would have the same addresses.
pub(crate) async fn no_conflict(libvirt: &Libvirt, directory: &Directory) -> Result<(), Failure> {
    let found = libvirt.survey().await.or_fail(Code::Unavailable)?;
    let mut others = found.iter().filter(|object| object.owner.directory != directory.text());
    match others.find(|object| object.name.ends_with("-uplink")) {
        None => Ok(()),
        Some(other) => {
            let message = format!(
                "the deployment of {} is on this computer, and both would have the way {} to their seed",
                other.owner.directory, other.name
            );
            let next = format!("`meshboot teardown --cluster {}` first", other.owner.directory);
            Err(Failure::new(Code::CannotCreate, message).next(next))
        }
    }
}
