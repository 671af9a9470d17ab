//! Keeps a mesh.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;

use anyhow::Context as _;
use hardware::Libvirt;
use hardware::plan::Layout;
use hardware::process::Invocation;
use hardware::virsh::DomainState;
use indicatif::HumanBytes;
use jiff::Timestamp;
use nix::unistd::syncfs;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Place, Powered, RECORD, Record, VERSION, check_room, libvirt_of, require_no_faults, state, taken,
};
use crate::deployment::{Deployment, MachineRecord};
use crate::exit::{Code, Failure, OrFail as _};
use crate::private_file;
use crate::progress::Reporter;
use crate::signals::Signals;
use crate::timeline::journal::{Act, Entry, Journal};
use crate::verbs::Context;

/// A disk of many GiB is copied, on a slow disk.
pub(super) const COPY_LIMIT: std::time::Duration = std::time::Duration::from_mins(30);

/// A snapshot that was kept.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Saved {
    saved: String,
    /// What it takes up.
    bytes: u64,
    /// How long that took.
    seconds: f64,
}

/// `snapshot save`. A signal ends it, and the mesh goes on all the same.
pub(super) async fn run(context: &Context, name: &str, reporter: &Reporter) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let directory = &context.directory;
    let _lock = directory.lock()?;
    require_no_faults(directory)?;
    let deployment = directory.require()?;
    let place = Place::of(directory, name);
    if place.load()?.is_some() {
        let message = format!("there is a snapshot {name} already");
        return Err(
            Failure::new(Code::CannotCreate, message).next(format!("`meshboot snapshot delete {name}`"))
        );
    }
    let libvirt = libvirt_of(&deployment, directory).await?;
    let layout = Layout(directory.path());
    let mut powered = Vec::new();
    let mut want = 0_u64;
    for machine in &deployment.machines {
        want = want.saturating_add(taken(&layout.disk(machine.name.as_str())));
        let running = match state(&libvirt, &deployment, machine).await? {
            DomainState::Running => true,
            DomainState::Other(words) if words == "paused" => false,
            DomainState::Off if place.memory(machine).exists() => return Err(half_saved(&place, machine)),
            DomainState::Off => continue,
            DomainState::Missing | DomainState::Other(_) => {
                let message = format!("{} is neither on nor off", machine.name);
                let next = format!("`meshboot node status {}` says more", machine.name);
                return Err(Failure::new(Code::TryAgain, message).next(next));
            }
        };
        want = want.saturating_add(u64::from(machine.size.memory_mib) << 20);
        powered.push((machine.clone(), running));
    }
    check_room(directory.path(), want)?;
    // What an interrupted one left goes first.
    let what = || format!("cannot make {}", place.0.display());
    if place.0.exists() {
        fs::remove_dir_all(&place.0).with_context(what).or_fail(Code::Io)?;
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&place.0)
        .with_context(what)
        .or_fail(Code::Io)?;

    let at = Timestamp::now();
    let saving = Saving { deployment: &deployment, libvirt: &libvirt, place: &place, reporter };
    let kept = saving.keep(&powered, layout, &mut signals).await;
    // Whatever happened, the mesh goes on.
    signals.whole(saving.go_on(&powered)).await?;
    if let Err(failure) = kept {
        // Memories of machines that run again are good for nothing.
        fs::remove_dir_all(&place.0)
            .with_context(|| format!("cannot remove {}", place.0.display()))
            .or_fail(Code::Io)?;
        return Err(failure.next("no snapshot was made, and the mesh goes on"));
    }
    let powered =
        powered.iter().map(|(machine, running)| Powered { machine: machine.number, running: *running });
    let record = Record { version: VERSION, at, deployment: deployment.clone(), powered: powered.collect() };
    let text = serde_json::to_vec_pretty(&record).context("cannot write the snapshot's record")?;
    // The record says that all else is there.
    let what = || format!("cannot write {}", place.0.display());
    File::open(&place.0).and_then(|folder| Ok(syncfs(folder)?)).with_context(what).or_fail(Code::Io)?;
    private_file::replace(&place.0.join(RECORD), &text).or_fail(Code::Io)?;
    Journal::append(
        directory,
        Entry::now(Act::Noted { machines: Vec::new(), text: format!("snapshot {name}") }),
    )
    .or_fail(Code::Io)?;
    reporter.finish();
    let (seconds, bytes) = (reporter.elapsed().as_secs_f64(), place.size());
    let text = format!("{name}: {} in {seconds:.0} s; the mesh goes on", HumanBytes(bytes));
    reporter.result(&Saved { saved: name.to_owned(), bytes, seconds }, &text);
    Ok(())
}

struct Saving<'a> {
    deployment: &'a Deployment,
    libvirt: &'a Libvirt,
    place: &'a Place,
    reporter: &'a Reporter,
}

// === impl Saving ===

impl Saving<'_> {
    /// Pauses all, then writes memories and disks.
    async fn keep(
        &self,
        powered: &[(MachineRecord, bool)],
        layout: Layout<'_>,
        signals: &mut Signals,
    ) -> Result<(), Failure> {
        self.reporter.stage("memory");
        for (machine, running) in powered {
            if *running {
                let domain = self.deployment.domain(machine);
                self.libvirt.virsh.suspend_domain(&domain).await.or_fail(Code::Unavailable)?;
            }
        }
        for (machine, _) in powered {
            self.reporter.line(&format!("{}: {} MiB", machine.name, machine.size.memory_mib));
            let (domain, memory) = (self.deployment.domain(machine), self.place.memory(machine));
            let save = async { self.libvirt.virsh.save_domain(&domain, &memory).await.or_fail(Code::Io) };
            // libvirt would go on with it, and nothing else can be done to the machine meanwhile.
            signals.whole(save).await?;
        }
        self.reporter.stage("disks");
        for machine in &self.deployment.machines {
            let name = machine.name.as_str();
            signals.until(copy(&layout.disk(name), &self.place.disk(machine))).await?;
            signals.until(copy(&layout.nvram(name), &self.place.nvram(machine))).await?;
        }
        Ok(())
    }

    /// Machines whose memory was written have lost their power and are put back; all that ran run again. One that cannot
    /// keeps none of the others.
    async fn go_on(&self, powered: &[(MachineRecord, bool)]) -> Result<(), Failure> {
        self.reporter.stage("going on");
        let mut problems = Vec::new();
        for (machine, _) in powered {
            if let Err(failure) = self.put_back(machine).await {
                problems.push(failure.message());
            }
        }
        for (machine, _) in powered.iter().filter(|(_, running)| *running) {
            if let Err(failure) = self.resume(machine).await {
                problems.push(failure.message());
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        let message = format!("not every machine goes on: {}", problems.join("; "));
        let next = format!(
            "`virsh restore` with the files in {} gives machines that are off their memory back, `virsh resume` lets those \
             go on that are paused",
            self.place.0.display()
        );
        Err(Failure::new(Code::Unavailable, message).next(next))
    }

    async fn put_back(&self, machine: &MachineRecord) -> Result<(), Failure> {
        if state(self.libvirt, self.deployment, machine).await? != DomainState::Off {
            return Ok(());
        }
        let memory = self.place.memory(machine);
        if !memory.exists() {
            let message = format!("{} lost its power before its memory was written", machine.name);
            return Err(Failure::new(Code::Unavailable, message));
        }
        self.libvirt.virsh.restore_domain(&memory).await.or_fail(Code::Io)
    }

    async fn resume(&self, machine: &MachineRecord) -> Result<(), Failure> {
        match state(self.libvirt, self.deployment, machine).await? {
            // Why was said.
            DomainState::Running | DomainState::Off | DomainState::Missing => Ok(()),
            DomainState::Other(_) => {
                let domain = self.deployment.domain(machine);
                self.libvirt.virsh.resume_domain(&domain).await.or_fail(Code::Unavailable)
            }
        }
    }
}

/// The only copy of its memory lies where the snapshot is to be.
fn half_saved(place: &Place, machine: &MachineRecord) -> Failure {
    let memory = place.memory(machine);
    let message = format!(
        "a snapshot of this name was begun and not ended: {} is off, and its memory is in {}",
        machine.name,
        memory.display()
    );
    let next = format!(
        "`virsh restore {}` lets it go on where it was; otherwise remove {} first",
        memory.display(),
        place.0.display()
    );
    Failure::new(Code::Data, message).next(next)
}

/// Copies a file whose holes stay holes, without copying at all where the file system can share.
pub(super) async fn copy(from: &std::path::Path, to: &std::path::Path) -> Result<(), Failure> {
    Invocation::new("cp", COPY_LIMIT)
        .args(["--sparse=always", "--reflink=auto", "--preserve=mode,ownership", "--"])
        .args([from, to])
        .run()
        .await
        .map(drop)
        .or_fail(Code::Io)
}
