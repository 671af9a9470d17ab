//! How far the boot on each link has come.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mesh::{Happening, LinkId, LinkStatus, Mac, MachineId, NodeName, Sound, Stage, Timeline};
use netboot_proto::judge::Judgement;
use tokio::sync::watch;

use crate::events::EventLog;
use crate::metrics::Metrics;

/// The state of every link, for whoever wants to watch it, with how it came about. Copies show the same board.
#[derive(Debug, Clone)]
pub struct StatusBoard {
    links: Arc<watch::Sender<Vec<LinkStatus>>>,
    histories: Arc<Mutex<BTreeMap<LinkId, History>>>,
    metrics: Metrics,
    events: EventLog,
}

/// How a link came to its state.
#[derive(Debug)]
struct History {
    timeline: Timeline,
    /// When its stage was entered.
    entered: Instant,
    /// When the boot that goes on was first heard of.
    began: Option<Instant>,
}

/// What an update is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// A boot goes on.
    Onward,
    /// A boot begins, or ends.
    Anew,
}

impl Default for StatusBoard {
    fn default() -> Self {
        Self::new()
    }
}

// === impl StatusBoard ===

impl StatusBoard {
    /// An empty board.
    #[must_use]
    pub fn new() -> Self {
        Self {
            links: Arc::new(watch::Sender::new(Vec::new())),
            histories: Arc::default(),
            metrics: Metrics::new(),
            events: EventLog::new(),
        }
    }

    /// Every link, ordered by near end, now and whenever one changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Vec<LinkStatus>> {
        self.links.subscribe()
    }

    /// The last boots of every link, also of those whose port is gone.
    #[must_use]
    pub fn timelines(&self) -> Vec<Timeline> {
        let histories = self.histories.lock().unwrap_or_else(PoisonError::into_inner);
        histories.values().map(|history| history.timeline.clone()).collect()
    }

    /// What happened on this machine since the service was started, not only on its links.
    #[must_use]
    pub fn events(&self) -> &EventLog {
        &self.events
    }

    /// Writes what was counted, in the text format of OpenMetrics, without the mark of its end.
    ///
    /// # Errors
    ///
    /// None that a string has.
    pub fn write_metrics(&self, out: &mut String) -> fmt::Result {
        self.metrics.encode(out)
    }

    /// Sets a link's stage, which the caller knows better from some point on: joining, ready.
    pub fn set_stage(&self, link: LinkId, stage: Stage, reason: Option<String>) {
        self.update(link, |status| enter(status, stage) | say(status, reason));
    }

    /// Says which machine is at the far end of a link.
    pub fn set_far(&self, link: LinkId, machine: Option<MachineId>, node: Option<NodeName>) {
        self.update(link, |status| {
            replace(&mut status.far_machine, machine) | replace(&mut status.far_node, node)
        });
    }

    /// A port appeared.
    pub(crate) fn add(&self, link: LinkId, port: &str, address: Ipv6Addr, far: Option<mesh::Far>) {
        let status = LinkStatus {
            far_mac: far.map(|far| far.mac),
            far_machine: far.and_then(|far| far.machine),
            ..LinkStatus::new(link, port, address, Stage::Dark, now())
        };
        self.metrics.set_faults(port, &[]);
        self.with_history(&status, |history| history.timeline.restart(Stage::Dark, millis()));
        self.links.send_modify(|links| {
            links.retain(|known| known.link != link);
            let at = links.partition_point(|known| known.link < link);
            links.insert(at, status);
        });
    }

    /// A port is gone.
    pub(crate) fn remove(&self, link: LinkId) {
        self.links.send_if_modified(|links| {
            let before = links.len();
            links.retain(|known| known.link != link);
            links.len() != before
        });
    }

    /// A boot begins, or ends, here: what was counted so far belongs to another one.
    pub(crate) fn restart(&self, link: LinkId, stage: Stage) {
        self.update_on(Course::Anew, link, |status| {
            let counted = status.bytes != 0;
            status.bytes = 0;
            counted | enter(status, stage) | say(status, None)
        });
    }

    /// A boot has come this far at least.
    pub(crate) fn advance(&self, link: LinkId, stage: Stage) {
        self.update(link, |status| status.stage < stage && enter(status, stage) | say(status, None));
    }

    /// Why a boot does not come further.
    pub(crate) fn explain(&self, link: LinkId, reason: Option<String>) {
        self.update(link, |status| say(status, reason));
    }

    /// The same, of a boot that has come just this far.
    pub(crate) fn explain_in(&self, stage: Stage, link: LinkId, reason: String) {
        self.update(link, |status| status.stage == stage && say(status, Some(reason)));
    }

    /// The link was judged. As long as it is not served, the fault is the reason, whatever else there would be to say.
    pub(crate) fn judge(&self, link: LinkId, judgement: &Judgement) {
        let Judgement { faults, forced, neighbour, .. } = judgement;
        let mut appeared = false;
        self.update(link, |status| {
            let before = is_blocked(status);
            let moved = replace(&mut status.neighbour, *neighbour);
            appeared = moved && *neighbour && (Stage::Addressed..=Stage::Asking).contains(&status.stage);
            let changed =
                replace(&mut status.faults, faults.clone()) | replace(&mut status.forced, *forced) | moved;
            match status.faults.first() {
                Some(fault) if !*forced => status.reason = Some(format!("not served: {fault}")),
                Some(_) | None if before => status.reason = None,
                Some(_) | None => {}
            }
            changed
        });
        if appeared {
            // What began to boot here has come up by another cable, or from its disk.
            self.restart(link, Stage::Carrier);
        }
    }

    /// A station spoke. Another one than before may be another machine.
    pub(crate) fn heard(&self, link: LinkId, mac: Mac) {
        self.update(link, |status| {
            let other = replace(&mut status.far_mac, Some(mac));
            if other {
                status.far_machine = None;
                status.far_node = None;
            }
            other
        });
    }

    /// Octets were sent.
    pub(crate) fn count(&self, link: LinkId, octets: u64) {
        self.update(link, |status| {
            status.bytes = status.bytes.saturating_add(octets);
            octets > 0
        });
    }

    /// The far end said something.
    pub(crate) fn hear(&self, link: LinkId, sound: Sound) {
        let mut histories = self.histories.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(history) = histories.get_mut(&link) {
            history.timeline.hear(sound);
        }
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn update(&self, link: LinkId, change: impl FnOnce(&mut LinkStatus) -> bool) {
        self.update_on(Course::Onward, link, change);
    }

    fn update_on(&self, course: Course, link: LinkId, change: impl FnOnce(&mut LinkStatus) -> bool) {
        self.links.send_if_modified(|links| {
            let Some(status) = links.iter_mut().find(|status| status.link == link) else { return false };
            let before = (status.stage, status.bytes, status.reason.clone());
            let changed = change(status);
            if changed {
                self.record(course, before, status);
            }
            changed
        });
    }

    /// Remembers what became of a link.
    fn record(&self, course: Course, before: (Stage, u64, Option<String>), status: &LinkStatus) {
        let (stage, bytes, reason) = before;
        let (port, now) = (&status.port, millis());
        self.with_history(status, |history| {
            if status.stage != stage {
                self.note_stage(status);
                self.metrics.count_stage(port, status.stage);
                if status.stage > stage && stage > Stage::Dark {
                    self.metrics.observe_stage(port, stage, history.entered.elapsed());
                }
                history.entered = Instant::now();
                match (course, status.stage) {
                    (Course::Anew, Stage::Addressed) => history.began = Some(history.entered),
                    (Course::Anew, _) => history.began = None,
                    (Course::Onward, Stage::Ready) => {
                        if let Some(began) = history.began.take() {
                            self.metrics.observe_boot(port, began.elapsed());
                        }
                    }
                    (Course::Onward, _) => {}
                }
                match course {
                    Course::Anew => history.timeline.restart(status.stage, now),
                    Course::Onward => history.timeline.enter(status.stage, now),
                }
            }
            let sent = status.bytes.saturating_sub(bytes);
            if sent > 0 {
                self.metrics.count_bytes(port, status.stage, sent);
                history.timeline.count(sent, now);
            }
            if let Some(text) = status.reason.as_ref().filter(|text| reason.as_ref() != Some(*text)) {
                history.timeline.note(text, now);
            }
        });
    }

    /// The carrier is the port's to tell.
    fn note_stage(&self, status: &LinkStatus) {
        if status.stage > Stage::Carrier {
            let LinkStatus { port, link, stage, far_node, .. } = status;
            let (port, far) = (port.clone(), far_node.clone());
            self.events.note(Happening::Stage { port, link: *link, stage: *stage, far });
        }
    }

    fn with_history(&self, status: &LinkStatus, change: impl FnOnce(&mut History)) {
        let mut histories = self.histories.lock().unwrap_or_else(PoisonError::into_inner);
        let history = histories.entry(status.link).or_insert_with(|| History {
            timeline: Timeline::new(status.link, status.port.clone(), status.stage, millis()),
            entered: Instant::now(),
            began: None,
        });
        // A port may come back by another name.
        history.timeline.port.clone_from(&status.port);
        change(history);
    }
}

fn enter(status: &mut LinkStatus, stage: Stage) -> bool {
    let changed = status.stage != stage;
    if changed {
        status.stage = stage;
        status.since = now();
    }
    changed
}

/// Gives the reason why a boot does not come further, unless the link itself is one.
fn say(status: &mut LinkStatus, reason: Option<String>) -> bool {
    !is_blocked(status) && replace(&mut status.reason, reason)
}

fn is_blocked(status: &LinkStatus) -> bool {
    !status.faults.is_empty() && !status.forced
}

fn replace<T: PartialEq>(slot: &mut T, value: T) -> bool {
    let changed = *slot != value;
    *slot = value;
    changed
}

fn now() -> u64 {
    millis() / 1000
}

fn millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
