//! `meshboot why`: the last boot on a link, step by step, where it hangs, and what to try next.
//!
//! Every node remembers the last boots of its own links and tells them on its status page. What is said here of causes
//! is in [`causes`].

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use jiff::Timestamp;
use mesh::{Boot, LinkStatus, Machine, Stage, Step, Timeline};
use schemars::JsonSchema;
use serde::Serialize;

use crate::deployment::Directory;
use crate::exit::{Code, Failure};
use crate::gateway::status::NodeStatus;
use crate::progress::Reporter;
use crate::status::Observer;

pub mod causes;

/// What one node says of itself and of the last boots of its links.
#[derive(Debug, Clone)]
pub struct Witness {
    /// Its status page.
    pub page: NodeStatus,
    /// The last boots of its links.
    pub timelines: Vec<Timeline>,
}

/// The last boot of one link.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Account {
    /// The machine at the near end.
    pub near: String,
    /// The near port's number.
    pub index: u8,
    /// Its name.
    pub port: String,
    /// The machine at the far end, as far as it is known.
    pub far: Option<String>,
    /// The stage that the last boot is in.
    pub stage: Stage,
    /// For how many seconds it has made no step, if that is too long.
    pub hangs: Option<u64>,
    /// Why it does not come further, where that is known.
    pub reason: Option<String>,
    /// The last boot.
    pub boot: Boot,
    /// Whether a node of this mesh is at the far end, which came by another cable or from its disk.
    pub neighbour: bool,
    /// How many boots before it are remembered.
    pub before: usize,
    /// What to try next.
    pub advice: Vec<String>,
}

/// What was found.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Found {
    /// The last boot of each link that is meant.
    links: Vec<Account>,
}

/// Shows the last boot at `target`: a port (`enp2s0`, `node1/enp2s0`, `node1/2`) or a machine.
///
/// # Errors
///
/// There is no deployment, nobody answers, or nobody knows the target.
pub async fn run(directory: &Directory, target: &str, reporter: &Reporter) -> Result<(), Failure> {
    let deployment = directory.require()?;
    let observer = Observer::new(&deployment, directory).await?;
    let pages = observer.nodes().await;
    if pages.is_empty() {
        let message = "the seed's status page does not answer, and it names the others";
        return Err(
            Failure::new(Code::TryAgain, message).next("`meshboot status` says what the seed waits for")
        );
    }
    let witnesses = join_all(pages.into_iter().map(async |page| {
        let timelines = observer.timelines(&page.machine).await;
        Witness { page, timelines }
    }));
    let witnesses = witnesses.await;
    let links = accounts(&witnesses, target, millis());
    if links.is_empty() {
        let message = format!("no node that answers has a link `{target}`, or serves a machine of that name");
        return Err(
            Failure::new(Code::Data, message).next(format!("known: {}", known(&witnesses).join(", ")))
        );
    }
    let text: Vec<String> = links.iter().map(|account| account.text(millis())).collect();
    reporter.result(&Found { links }, &text.join("\n"));
    Ok(())
}

/// The last boots of the links that `target` names.
#[must_use]
pub fn accounts(witnesses: &[Witness], target: &str, now: u64) -> Vec<Account> {
    let machines: Vec<&Machine> = witnesses.iter().flat_map(|witness| &witness.page.machines).collect();
    let mut accounts = Vec::new();
    for witness in witnesses {
        for status in &witness.page.links {
            let timeline = witness.timelines.iter().find(|timeline| timeline.link == status.link);
            let boot = timeline.and_then(|timeline| timeline.boots.back());
            let (Some(timeline), Some(boot)) = (timeline, boot) else { continue };
            let Some(step) = boot.steps.back() else { continue };
            let far = far_name(status, &machines);
            let near = witness.page.machine.name.to_string();
            if !names(target, &near, status) && far.as_deref() != Some(target) {
                continue;
            }
            let hangs = causes::hangs(status, step, now);
            let blocked = !status.faults.is_empty() && !status.forced;
            accounts.push(Account {
                near,
                index: status.link.port.get(),
                port: status.port.clone(),
                far,
                stage: step.stage,
                hangs: hangs.map(|still| still.as_secs()),
                neighbour: causes::is_neighbour(status, step),
                reason: status.reason.clone(),
                boot: boot.clone(),
                before: timeline.boots.len().saturating_sub(1),
                // Nothing is to be tried as long as the boot goes on.
                advice: if hangs.is_some() || blocked {
                    causes::advice(status, boot, step)
                } else {
                    Vec::new()
                },
            });
        }
    }
    accounts
}

/// Whether a target names a link by its near port.
fn names(target: &str, near: &str, status: &LinkStatus) -> bool {
    let is_port = |port: &str| port == status.port || port.parse() == Ok(status.link.port.get());
    match target.split_once('/') {
        Some((machine, port)) => machine == near && is_port(port),
        None => target == status.port,
    }
}

pub(crate) fn far_name(status: &LinkStatus, machines: &[&Machine]) -> Option<String> {
    let by_id = |machine: &&&Machine| Some(machine.id) == status.far_machine;
    let by_mac = |machine: &&&Machine| machine.ports.iter().any(|port| Some(port.mac) == status.far_mac);
    let name = status.far_node.as_ref();
    name.or_else(|| {
        machines.iter().find(by_id).or_else(|| machines.iter().find(by_mac)).map(|machine| &machine.name)
    })
    .map(ToString::to_string)
    .or_else(|| status.far_mac.map(|mac| mac.to_string()))
}

fn known(witnesses: &[Witness]) -> Vec<String> {
    let links = witnesses.iter().flat_map(|witness| {
        witness.page.links.iter().map(|status| format!("{}/{}", witness.page.machine.name, status.port))
    });
    links.collect()
}

// === impl Account ===

impl Account {
    /// The account for people.
    #[must_use]
    pub fn text(&self, now: u64) -> String {
        let far = self.far.as_deref().unwrap_or("nobody has spoken there");
        let mut out = format!("{} port {} ({}): {far}\n", self.near, self.index, self.port);
        let begun = self.boot.steps.front().map_or(now, |step| step.at);
        let steps: Vec<&Step> = self.boot.steps.iter().collect();
        let began = i64::try_from(begun).ok().and_then(|begun| Timestamp::from_millisecond(begun).ok());
        // Writing to a String cannot fail.
        let _infallible = writeln!(
            out,
            "  since {}, {} earlier remembered",
            began.map_or_else(|| "?".to_owned(), |began| format!("{began:.0}")),
            self.before
        );
        for (at, step) in steps.iter().enumerate() {
            let end = steps.get(at + 1).map_or(now, |next| next.at);
            let took = Duration::from_millis(end.saturating_sub(step.at));
            let after = Duration::from_millis(step.at.saturating_sub(begun));
            let sent = if step.bytes > 0 { format!("  {}", size(step.bytes)) } else { String::new() };
            let rate = step.rate().map_or_else(String::new, |rate| format!(" at {}/s", size(rate)));
            let _infallible = writeln!(
                out,
                "  +{:<13}{:<12}{:<13}{sent}{rate}",
                span(after),
                step.stage.to_string(),
                span(took)
            );
            for (when, note) in &step.notes {
                let after = Duration::from_millis(when.saturating_sub(begun));
                let _infallible = writeln!(out, "   +{:<12}  {note}", span(after));
            }
        }
        let heard = self.boot.heard;
        let _infallible = writeln!(
            out,
            "  heard: {} router solicitations, {} DHCPv6 messages, {} of them for a boot file",
            heard.solicitations, heard.dhcp, heard.boot_files
        );
        if let Some(reason) = &self.reason {
            let _infallible = writeln!(out, "  reason: {reason}");
        }
        match self.hangs {
            Some(seconds) => {
                let _infallible =
                    writeln!(out, "  HANGS in {} for {}", self.stage, span(Duration::from_secs(seconds)));
            }
            None if self.neighbour => {
                out.push_str(
                    "  nothing is the matter: a node of this mesh is there, and booted by another cable\n",
                );
            }
            None if self.stage == Stage::Ready => out.push_str("  nothing is the matter\n"),
            None => {
                let _infallible = writeln!(out, "  goes on: in {}", self.stage);
            }
        }
        for line in &self.advice {
            let _infallible = writeln!(out, "  try: {line}");
        }
        out
    }
}

/// A time as `4.2 s`, `3 min 10 s`, `5 h 1 min`.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{}.{} s", seconds, time.subsec_millis() / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

fn size(octets: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut tenths = octets.saturating_mul(10);
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).unwrap_or(&"");
    if unit == 0 { format!("{octets} {name}") } else { format!("{}.{} {name}", tenths / 10, tenths % 10) }
}

fn millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
