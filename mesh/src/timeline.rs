//! What happened on a link, boot by boot: the vocabulary of `meshboot why`.
//!
//! Bounded in every direction: the last few boots, the last few words of each step. Times are milliseconds since 1970.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{LinkId, Stage};

/// The last boots of a link that are remembered.
pub const MAX_BOOTS: usize = 4;
/// A boot goes through every stage once, and may fall back a few times.
pub const MAX_STEPS: usize = 24;
/// The last reasons of a step that are remembered.
pub const MAX_NOTES: usize = 4;

/// The last boots of one link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// The link.
    pub link: LinkId,
    /// The near port's name in its kernel.
    pub port: String,
    /// Its boots, the last one last. The last goes on.
    pub boots: VecDeque<Boot>,
}

/// One boot, or the time in which none began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Boot {
    /// Its steps in their order; the last one goes on, or was the last before the next boot began.
    pub steps: VecDeque<Step>,
    /// What was heard from the far end.
    pub heard: Heard,
}

/// A stage of a boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Step {
    /// The stage.
    pub stage: Stage,
    /// When it began.
    pub at: u64,
    /// Octets that were sent in it.
    pub bytes: u64,
    /// When the last of them were sent; when it began, if none were.
    pub sent: u64,
    /// Why it did not come to an end, as far as anybody said, each with its time.
    pub notes: VecDeque<(u64, String)>,
}

/// How much was heard from the far end in one boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Heard {
    /// Router solicitations.
    pub solicitations: u64,
    /// DHCPv6 messages.
    pub dhcp: u64,
    /// DHCPv6 messages that asked for a boot file.
    pub boot_files: u64,
}

/// Something that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sound {
    /// A router solicitation.
    Solicitation,
    /// A DHCPv6 message.
    Dhcp,
    /// A DHCPv6 message that asked for a boot file.
    BootFile,
}

// === impl Timeline ===

impl Timeline {
    /// A link of which nothing is known yet.
    #[must_use]
    pub fn new(link: LinkId, port: String, stage: Stage, now: u64) -> Self {
        let mut new = Self { link, port, boots: VecDeque::new() };
        new.begin(stage, now);
        new
    }

    /// A stage was entered by what begins a boot, or ends one. It is the same boot if that has not come further: firmware
    /// asks more than once.
    pub fn restart(&mut self, stage: Stage, now: u64) {
        let last = self.boots.back().and_then(|boot| boot.steps.back()).map(|step| step.stage);
        match last {
            Some(last) if last == stage => {}
            Some(last) if last < stage => self.enter(stage, now),
            Some(_) | None => self.begin(stage, now),
        }
    }

    /// A stage was entered.
    pub fn enter(&mut self, stage: Stage, now: u64) {
        let Some(boot) = self.boots.back_mut() else { return self.begin(stage, now) };
        if boot.steps.back().is_some_and(|step| step.stage == stage) {
            return;
        }
        if boot.steps.len() == MAX_STEPS {
            boot.steps.pop_front();
        }
        boot.steps.push_back(Step::new(stage, now));
    }

    /// Octets were sent.
    pub fn count(&mut self, bytes: u64, now: u64) {
        if let Some(step) = self.last_step() {
            step.bytes = step.bytes.saturating_add(bytes);
            step.sent = now;
        }
    }

    /// Somebody said why the boot does not come further. Saying it again is no news.
    pub fn note(&mut self, text: &str, now: u64) {
        let Some(step) = self.last_step() else { return };
        if step.notes.back().is_some_and(|(_, known)| known == text) {
            return;
        }
        if step.notes.len() == MAX_NOTES {
            step.notes.pop_front();
        }
        step.notes.push_back((now, text.to_owned()));
    }

    /// The far end said something.
    pub fn hear(&mut self, sound: Sound) {
        let Some(boot) = self.boots.back_mut() else { return };
        let heard = &mut boot.heard;
        let counter = match sound {
            Sound::Solicitation => &mut heard.solicitations,
            Sound::Dhcp => &mut heard.dhcp,
            Sound::BootFile => &mut heard.boot_files,
        };
        *counter = counter.saturating_add(1);
    }

    fn begin(&mut self, stage: Stage, now: u64) {
        if self.boots.len() == MAX_BOOTS {
            self.boots.pop_front();
        }
        let steps = VecDeque::from([Step::new(stage, now)]);
        self.boots.push_back(Boot { steps, heard: Heard::default() });
    }

    fn last_step(&mut self) -> Option<&mut Step> {
        self.boots.back_mut()?.steps.back_mut()
    }
}

// === impl Step ===

impl Step {
    fn new(stage: Stage, now: u64) -> Self {
        Self { stage, at: now, bytes: 0, sent: now, notes: VecDeque::new() }
    }

    /// Octets a second, from its beginning to the last that were sent.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        let millis = self.sent.saturating_sub(self.at);
        (self.bytes > 0 && millis > 0).then(|| self.bytes.saturating_mul(1000) / millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mac, MachineId};

    fn timeline() -> Timeline {
        let link = LinkId { near: MachineId::from_mac(Mac([2, 0, 0, 0, 0, 1])), port: 0.try_into().unwrap() };
        Timeline::new(link, "eth0".to_owned(), Stage::Dark, 0)
    }

    fn stages(boot: &Boot) -> Vec<Stage> {
        boot.steps.iter().map(|step| step.stage).collect()
    }

    #[test]
    fn firmware_that_asks_twice_begins_one_boot_and_after_loading_another() {
        let mut timeline = timeline();
        timeline.restart(Stage::Carrier, 1);
        timeline.restart(Stage::Addressed, 2);
        timeline.restart(Stage::Addressed, 3);
        timeline.enter(Stage::Loading, 4);
        timeline.restart(Stage::Addressed, 5);
        timeline.restart(Stage::Dark, 6);
        let boots: Vec<Vec<Stage>> = timeline.boots.iter().map(stages).collect();
        let whole = vec![Stage::Dark, Stage::Carrier, Stage::Addressed, Stage::Loading];
        assert_eq!(boots, [whole, vec![Stage::Addressed], vec![Stage::Dark]]);
    }

    #[test]
    fn a_step_counts_what_was_sent_in_it() {
        let mut timeline = timeline();
        timeline.enter(Stage::Loading, 1000);
        assert_eq!(timeline.boots[0].steps[1].rate(), None);
        timeline.count(500, 1500);
        timeline.count(500, 3000);
        timeline.enter(Stage::Root, 9000);
        timeline.count(7, 9000);
        let steps = &timeline.boots[0].steps;
        assert_eq!((steps[1].bytes, steps[1].rate()), (1000, Some(500)));
        assert_eq!((steps[2].bytes, steps[2].rate()), (7, None));
    }

    #[test]
    fn a_link_that_never_comes_to_rest_fills_no_memory() {
        let mut timeline = timeline();
        for round in 0..1000 {
            timeline.restart(if round % 2 == 0 { Stage::Carrier } else { Stage::Dark }, round);
            for step in 0..100 {
                timeline.enter(if step % 2 == 0 { Stage::Asking } else { Stage::Configured }, round);
                timeline.note(&step.to_string(), round);
                timeline.note(&step.to_string(), round);
            }
            for reason in 0..100 {
                timeline.note(&reason.to_string(), round);
            }
        }
        assert_eq!(timeline.boots.len(), MAX_BOOTS);
        assert!(timeline.boots.iter().all(|boot| boot.steps.len() == MAX_STEPS));
        assert_eq!(timeline.boots[3].steps[MAX_STEPS - 1].notes.len(), MAX_NOTES);
    }

    #[test]
    fn what_was_heard_belongs_to_the_boot_that_goes_on() {
        let mut timeline = timeline();
        timeline.hear(Sound::Solicitation);
        timeline.restart(Stage::Carrier, 1);
        timeline.hear(Sound::Dhcp);
        timeline.hear(Sound::BootFile);
        assert_eq!(timeline.boots[0].heard, Heard { solicitations: 1, dhcp: 1, boot_files: 1 });
        timeline.restart(Stage::Dark, 2);
        assert_eq!(timeline.boots[1].heard, Heard::default());
    }
}
