//! What is refused before anything is made.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;
use hardware::libvirt::{Kind, RemoveError};
use hardware::process::RunError;
use hardware::{Accel, Libvirt, host};
use ignition::KubernetesVersion;
use ipnet::IpNet;

use crate::deployment::{Deployment, Directory, Wanted};
use crate::exit::{Code, Failure, OrFail as _};
use crate::settings::Settings;
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

/// What to expect where control planes are emulated, and this computer has not a processor for each and one for the rest.
pub(crate) fn few_processors(control_planes: usize, accel: Accel, processors: usize) -> Option<String> {
    let few = accel == Accel::Tcg && control_planes > 1 && processors <= control_planes;
    few.then(|| {
        format!(
            "{control_planes} control planes are emulated by {processors} processors: their etcd answers late, and API \
             servers that wait for it are started again and again; with KVM, or more processors, they are well"
        )
    })
}

/// Every machine's kubelet goes with the mesh's Kubernetes.
pub(crate) fn kubelets(wanted: &Wanted, mesh: KubernetesVersion) -> Result<(), Failure> {
    let skewed = wanted.skewed(mesh);
    let lines: Vec<String> = skewed.iter().map(|(name, error)| format!("{name}: {error}")).collect();
    match lines.as_slice() {
        [] => Ok(()),
        [only] => Err(Failure::new(Code::Config, only.clone())),
        many => {
            let message = format!("{} kubelets do not fit:\n  {}", many.len(), many.join("\n  "));
            Err(Failure::new(Code::Config, message))
        }
    }
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
    room_for_more(context, &[memory_mib], 0)
}

/// Memory and disk for more machines, of so many MiB each, when `freed_mib` are given back that are not free yet.
pub(crate) fn room_for_more(context: &Context, sizes: &[u32], freed_mib: u64) -> Result<(), Failure> {
    let free = host::available_memory_mib().context("cannot tell how much memory is free");
    let free = free.or_fail(Code::Io)?.saturating_add(freed_mib);
    let fit = host::how_many_fit(free, sizes.iter().copied());
    if let Some(memory_mib) = sizes.get(fit) {
        let before =
            if sizes.len() > 1 { format!(", and {fit} of {} would fit", sizes.len()) } else { String::new() };
        let message = format!(
            "there is not enough memory for a machine of {memory_mib} MiB: {free} MiB are free{before}"
        );
        return Err(Failure::new(Code::Unavailable, message).next("give it less with --memory, or free some"));
    }
    let disks = NODE_DISK.saturating_mul(u64::try_from(sizes.len()).unwrap_or(u64::MAX));
    room(context.directory.path(), disks, "the machine's disk")
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

/// No other deployment on this computer has addresses of this one.
///
/// # Errors
///
/// What both would have, or libvirt does not answer.
pub async fn no_conflict(
    libvirt: &Libvirt,
    directory: &Directory,
    settings: &Settings,
) -> Result<(), Failure> {
    let found = libvirt.survey().await.or_fail(Code::Unavailable)?;
    let others = found.iter().filter(|object| object.owner.directory != directory.text());
    let mut theirs = Vec::new();
    for other in others.filter(|object| object.kind == Kind::Network) {
        match libvirt.occupied(&other.name).await {
            Ok(networks) => {
                theirs.extend(networks.into_iter().map(|net| (other.owner.directory.as_str(), net)))
            }
            // One that is gone since it was listed has no addresses.
            Err(error) => tracing::debug!(network = other.name, %error, "cannot tell its addresses"),
        }
    }
    let overlaps = overlaps(settings, &theirs);
    let Some((other, _)) = overlaps.first() else { return Ok(()) };
    let words: Vec<&str> = overlaps.iter().map(|(_, words)| words.as_str()).collect();
    let message = format!("another mesh on this computer has addresses of this one: {}", words.join("; "));
    let next = format!(
        "give this one a name, and so addresses, of its own with -p NAME, or others in the settings; or `meshboot \
         teardown --cluster {other}` first"
    );
    Err(Failure::new(Code::CannotCreate, message).next(next))
}

/// What this computer would have twice: the other deployment's directory, and the reason in words.
fn overlaps<'a>(settings: &Settings, theirs: &[(&'a str, IpNet)]) -> Vec<(&'a str, String)> {
    let libvirt = &settings.libvirt;
    let ours = [
        ("libvirt.host-v4", IpNet::V4(libvirt.host_v4.trunc())),
        ("libvirt.host-v6", IpNet::V6(libvirt.host_v6.trunc())),
        ("addresses.anycast", IpNet::V6(settings.addresses.anycast)),
        ("addresses.machines", IpNet::V6(settings.addresses.machines)),
    ];
    let meets = |one: &IpNet, other: &IpNet| one.contains(other) || other.contains(one);
    let pairs = ours
        .iter()
        .flat_map(|(key, own)| theirs.iter().map(move |(directory, net)| (key, own, directory, net)));
    let same = pairs.filter(|(_, own, _, net)| meets(own, net));
    same.map(|(key, own, directory, net)| (*directory, format!("{key} {own} overlaps {net} of {directory}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Raw;

    #[test]
    fn emulated_control_planes_want_processors() {
        let said = few_processors(3, Accel::Tcg, 2).unwrap();
        assert!(said.contains("3 control planes are emulated by 2 processors"), "{said}");
        for (control_planes, accel, processors) in
            [(3, Accel::Kvm, 2), (1, Accel::Tcg, 1), (3, Accel::Tcg, 4)]
        {
            assert_eq!(few_processors(control_planes, accel, processors), None);
        }
    }

    #[test]
    fn what_two_meshes_would_both_have_is_named() {
        let settings = Settings::from_raw(Raw::default()).unwrap();
        let theirs = |nets: &[&str]| -> Vec<(&str, IpNet)> {
            nets.iter().map(|net| ("/other/cluster", net.parse().unwrap())).collect()
        };
        assert_eq!(overlaps(&settings, &theirs(&["172.30.0.4/30", "fd00::/64", "2001:db8:1::/71"])), []);
        let words = overlaps(&settings, &theirs(&["172.30.0.0/24", "2001:db8::/32"]));
        let words: Vec<&str> = words.iter().map(|(_, words)| words.as_str()).collect();
        assert_eq!(
            words,
            [
                "libvirt.host-v4 172.30.0.0/30 overlaps 172.30.0.0/24 of /other/cluster",
                "libvirt.host-v6 2001:db8:a001::/64 overlaps 2001:db8::/32 of /other/cluster",
                "addresses.machines 2001:db8::/71 overlaps 2001:db8::/32 of /other/cluster",
            ]
        );
    }
}
