//! From the words of the command line to what is asked for, with every mistake in them.

use std::collections::BTreeSet;
use std::time::Duration;

use hardware::traffic::{Impairment, Share};
use hardware::virsh::Pace;

use super::asked::{Asked, DiskTrouble, Ends, Service};
use super::scene::Scene;
use crate::cli::fault::{Fault, Lasting, LinkFault, NodeFault};
use crate::settings::{duration, octets};

/// A fault has to be seen before it ends.
const SHORTEST: Duration = Duration::from_millis(100);
/// libvirt takes that long for both ends of a cable, on a busy computer.
const SHORTEST_PERIOD: Duration = Duration::from_secs(1);
/// Clocks are not set farther, in seconds: before 1970 there is no time, and no certificate outlives twenty years.
const FARTHEST: i64 = 20 * 366 * 24 * 60 * 60;
/// What a slow disk is unless something else is said: an old memory card's pace.
const SLOW: Pace = Pace { octets: 1 << 20, operations: 50 };

/// What the words mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Make a fault.
    Make {
        /// Which.
        asked: Asked,
        /// For how long; none until it is cleared.
        lasts: Option<Duration>,
        /// Whether to wait for its end.
        wait: bool,
    },
    /// Undo what was done to a cable.
    Heal(Ends),
    /// Undo that a machine is frozen.
    Thaw(String),
}

/// Every mistake.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mistakes(pub Vec<String>);

/// Takes one word after the other and keeps the mistakes.
struct Reader<'a> {
    scene: &'a Scene,
    mistakes: Vec<String>,
}

/// What `words` ask for; none if they are about faults in general.
///
/// # Errors
///
/// All mistakes.
pub fn understand(words: &Fault, scene: &Scene) -> Result<Option<Wish>, Mistakes> {
    let mut reader = Reader { scene, mistakes: Vec::new() };
    let wish = reader.fault(words);
    match (wish, reader.mistakes.is_empty()) {
        (wish, true) => Ok(wish),
        (_, false) => Err(Mistakes(reader.mistakes)),
    }
}

/// What has to be done by hand where machines are real; none if the network will do.
#[must_use]
pub fn by_hand(words: &Fault) -> Option<&'static str> {
    match words {
        Fault::Link(LinkFault::Cut { silent: false, .. } | LinkFault::Flap { .. }) => {
            Some("pull the cable out at one of its ends, and put it back")
        }
        Fault::Link(LinkFault::Heal { .. }) => Some("put the cable back"),
        Fault::Link(LinkFault::Cut { silent: true, .. } | LinkFault::Degrade { .. }) => {
            Some("put a switch that can do it, or a bridge of two ports, in the middle of the cable")
        }
        Fault::Node(NodeFault::Kill { .. }) => Some("pull the machine's plug"),
        Fault::Node(NodeFault::Reboot { .. }) => Some("press the machine's reset button"),
        Fault::Node(NodeFault::Freeze { .. } | NodeFault::Thaw { .. }) => {
            Some("a real machine cannot be frozen; a pulled plug is the nearest to it")
        }
        Fault::Node(NodeFault::Wipe { .. }) => {
            Some("erase the machine's disk, or put another in, and switch it on again")
        }
        Fault::Partition { .. } => Some("pull out every cable between the sets"),
        Fault::Disk { trouble, .. } if trouble == "slow" => Some("put a slow disk into the machine"),
        Fault::Service { .. }
        | Fault::Clock { .. }
        | Fault::Disk { .. }
        | Fault::List
        | Fault::Clear { .. }
        | Fault::Keep => None,
    }
}

// === impl Mistakes ===

impl std::fmt::Display for Mistakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_slice() {
            [only] => f.write_str(only),
            many => {
                write!(f, "there are {} mistakes:", many.len())?;
                many.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
            }
        }
    }
}

impl std::error::Error for Mistakes {}

// === impl Reader ===

impl Reader<'_> {
    fn fault(&mut self, words: &Fault) -> Option<Wish> {
        match words {
            Fault::Link(words) => self.link(words),
            Fault::Node(words) => self.node(words),
            Fault::Partition { sides, silent, lasting } => {
                let (sides, lasts) = (self.sides(sides), self.lasts(lasting));
                let cables = self.cables_between(&sides);
                let asked = Asked::Partition { sides, cables, silent: *silent };
                Some(Wish::Make { asked, lasts, wait: lasting.wait })
            }
            Fault::Service { service, node, lasting } => {
                let service = self.take(service.parse::<Service>().map_err(|error| error.to_string()));
                let (machine, lasts) = (self.machine(node), self.lasts(lasting));
                if service == Some(Service::Routing) && lasts.is_none() {
                    self.mistakes.push(
                        "a node without routing can be reached by nobody who would undo it: say --for how long"
                            .to_owned(),
                    );
                }
                let asked = Asked::Service { service: service?, machine: machine? };
                Some(Wish::Make { asked, lasts, wait: lasting.wait })
            }
            Fault::Clock { node, by, lasting } => {
                let (machine, by, lasts) = (self.machine(node), self.offset(by), self.lasts(lasting));
                let asked = Asked::Clock { machine: machine?, by: by? };
                Some(Wish::Make { asked, lasts, wait: lasting.wait })
            }
            Fault::Disk { node, trouble, rate, iops, lasting } => {
                let machine = self.machine(node);
                let trouble = self.disk(trouble, rate.as_deref(), iops.as_deref());
                let lasts = self.lasts(lasting);
                let asked = Asked::Disk { machine: machine?, trouble: trouble? };
                Some(Wish::Make { asked, lasts, wait: lasting.wait })
            }
            Fault::List | Fault::Clear { .. } | Fault::Keep => None,
        }
    }

    fn link(&mut self, words: &LinkFault) -> Option<Wish> {
        match words {
            LinkFault::Heal { cable } => self.cable(cable).map(Wish::Heal),
            LinkFault::Cut { cable, silent, lasting } => {
                let (cable, lasts) = (self.cable(cable), self.lasts(lasting));
                let asked = Asked::LinkCut { cable: cable?, silent: *silent };
                Some(Wish::Make { asked, lasts, wait: lasting.wait })
            }
            LinkFault::Degrade { cable, latency, jitter, loss, rate, lasting } => {
                let cable = self.cable(cable);
                let by = Impairment {
                    latency: self.optional("--latency", latency.as_deref(), duration),
                    jitter: self.optional("--jitter", jitter.as_deref(), duration),
                    loss: self.optional("--loss", loss.as_deref(), share),
                    rate: self.optional("--rate", rate.as_deref(), bits),
                };
                let given = [latency, jitter, loss, rate];
                if given.iter().all(|word| word.is_none()) {
                    self.mistakes.push("say how: --latency, --jitter, --loss or --rate".to_owned());
                }
                if by.jitter.is_some() && by.jitter > by.latency {
                    self.mistakes.push("--jitter is around --latency, and cannot be more than it".to_owned());
                }
                let lasts = self.lasts(lasting);
                let asked = Asked::LinkDegrade { cable: cable?, by };
                Some(Wish::Make { asked, lasts, wait: lasting.wait })
            }
            LinkFault::Flap { cable, period, count, lasting } => {
                let cable = self.cable(cable);
                let period = self.optional("--period", Some(period), duration);
                if period.is_some_and(|period| period < SHORTEST_PERIOD) {
                    self.mistakes
                        .push("--period: a second is the shortest that a cable can follow".to_owned());
                }
                let times = self.optional("--count", count.as_deref(), positive);
                let lasts = self.lasts(lasting);
                let asked = Asked::LinkFlap { cable: cable?, period: period?, times };
                Some(Wish::Make { asked, lasts, wait: lasting.wait })
            }
        }
    }

    fn node(&mut self, words: &NodeFault) -> Option<Wish> {
        let make = |asked: Asked, lasts, wait| Some(Wish::Make { asked, lasts, wait });
        match words {
            NodeFault::Kill { node, lasting } => {
                let (machine, lasts) = (self.machine(node), self.lasts(lasting));
                make(Asked::NodeKill { machine: machine? }, lasts, lasting.wait)
            }
            NodeFault::Freeze { node, lasting } => {
                let (machine, lasts) = (self.machine(node), self.lasts(lasting));
                make(Asked::NodeFreeze { machine: machine? }, lasts, lasting.wait)
            }
            NodeFault::Thaw { node } => self.machine(node).map(Wish::Thaw),
            NodeFault::Reboot { node } => {
                make(Asked::NodeReboot { machine: self.machine(node)? }, None, false)
            }
            NodeFault::Wipe { node } => {
                let machine = self.machine(node)?;
                let number = self.scene.machine(&machine).and_then(|place| place.number);
                if number == Some(hardware::MachineNumber::SEED) {
                    self.mistakes.push(format!(
                        "{machine} boots from its disk: wiped, it would be a seed no more; ./teardown and ./deploy make \
                         another"
                    ));
                }
                make(Asked::NodeWipe { machine }, None, false)
            }
        }
    }

    fn take<T>(&mut self, read: Result<T, String>) -> Option<T> {
        read.map_err(|mistake| self.mistakes.push(mistake)).ok()
    }

    fn optional<T>(
        &mut self,
        flag: &str,
        word: Option<&str>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = read(word?).map_err(|mistake| format!("{flag}: {mistake}"));
        self.take(value)
    }

    fn lasts(&mut self, lasting: &Lasting) -> Option<Duration> {
        let time = self.optional("--for", lasting.time.as_deref(), duration)?;
        if time < SHORTEST {
            self.mistakes.push("--for: a tenth of a second is the shortest".to_owned());
        }
        Some(time)
    }

    fn machine(&mut self, name: &str) -> Option<String> {
        let found = self.scene.machine(name).map(|machine| machine.name.clone());
        self.take(found.ok_or_else(|| format!("there is no machine `{name}`: {}", self.scene.names())))
    }

    /// `A-B`; names may have hyphens of their own.
    fn cable(&mut self, word: &str) -> Option<Ends> {
        let found = self.find_cable(word);
        self.take(found)
    }

    fn find_cable(&self, word: &str) -> Result<Ends, String> {
        if let Some(number) = word.strip_prefix('#') {
            let cable = number.parse().ok().and_then(|number| self.scene.cable(number));
            return cable
                .map(|cable| cable.ends.clone())
                .ok_or_else(|| format!("there is no cable `{word}`: {}", self.all_cables()));
        }
        let splits = word.match_indices('-').map(|(at, _)| (&word[..at], &word[at + 1..]));
        let known = |name: &str| self.scene.machine(name).is_some();
        let pairs: Vec<(&str, &str)> = splits.filter(|(one, other)| known(one) && known(other)).collect();
        let cables: BTreeSet<&Ends> = pairs
            .iter()
            .flat_map(|(one, other)| self.scene.between(one, other).map(|cable| &cable.ends))
            .collect();
        let cables: Vec<&Ends> = cables.into_iter().collect();
        match (cables.as_slice(), pairs.first()) {
            ([cable], _) => Ok((*cable).clone()),
            ([_, _, ..], _) => {
                let numbers: Vec<String> = cables.iter().map(|cable| format!("#{}", cable.cable)).collect();
                Err(format!("there is more than one cable `{word}`: say {}", numbers.join(" or ")))
            }
            ([], Some((one, other))) if one == other => {
                Err(format!("`{word}`: a cable joins two machines, not one to itself"))
            }
            ([], Some((one, other))) => {
                Err(format!("there is no cable between {one} and {other}: {}", self.all_cables()))
            }
            ([], None) => Err(format!("there is no cable `{word}`: {}", self.all_cables())),
        }
    }

    fn all_cables(&self) -> String {
        let all: Vec<String> = self.scene.cables.iter().map(|cable| cable.ends.to_string()).collect();
        if all.is_empty() { "there are none".to_owned() } else { all.join(", ") }
    }

    /// `seed,node1 node2,node3`, or `{seed,node1}|{node2,node3}`, in one word or several.
    fn sides(&mut self, words: &[String]) -> Vec<Vec<String>> {
        let text = words.join(" ");
        let sets = text.split(|letter: char| letter == '|' || letter.is_whitespace());
        let sets = sets.map(|set| set.trim_matches(['{', '}'])).filter(|set| !set.is_empty());
        let sides: Vec<Vec<String>> = sets
            .map(|set| set.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
            .collect();
        if sides.len() < 2 {
            self.mistakes.push("a partition has two sets at least: seed,node1 node2,node3".to_owned());
        }
        let mut seen = BTreeSet::new();
        for name in sides.iter().flatten() {
            if self.machine(name).is_some() && !seen.insert(name.as_str()) {
                self.mistakes.push(format!("{name} is named twice, and can only be on one side"));
            }
        }
        sides
    }

    fn cables_between(&mut self, sides: &[Vec<String>]) -> Vec<Ends> {
        let side = |name: &String| sides.iter().position(|side| side.contains(name));
        let cables = self.scene.cables.iter().filter(|cable| {
            let ends = (side(&cable.ends.near), side(&cable.ends.far));
            matches!(ends, (Some(one), Some(other)) if one != other)
        });
        let cables: Vec<Ends> = cables.map(|cable| cable.ends.clone()).collect();
        if cables.is_empty() && self.mistakes.is_empty() {
            self.mistakes.push("there is no cable between these sets that could be cut".to_owned());
        }
        cables
    }

    fn disk(&mut self, trouble: &str, rate: Option<&str>, iops: Option<&str>) -> Option<DiskTrouble> {
        let rate = self.optional("--rate", rate, positive_octets);
        let iops = self.optional("--iops", iops, |word| positive(word).map(u64::from));
        if trouble != "slow" && (rate.is_some() || iops.is_some()) {
            self.mistakes.push(format!("--rate and --iops say how slow a disk is, not how `{trouble}`"));
        }
        match trouble {
            "full" => Some(DiskTrouble::Full),
            "readonly" => Some(DiskTrouble::Readonly),
            "slow" if rate.is_none() && iops.is_none() => Some(DiskTrouble::Slow(SLOW)),
            "slow" => Some(DiskTrouble::Slow(Pace {
                octets: rate.unwrap_or_default(),
                operations: iops.unwrap_or_default(),
            })),
            other => self.take(Err(format!("`{other}` is no trouble of a disk: full, readonly or slow"))),
        }
    }

    fn offset(&mut self, word: &str) -> Option<i64> {
        let read = || {
            let (sign, time) = match word.split_at_checked(1) {
                Some(("+", time)) => (1, time),
                Some(("-", time)) => (-1, time),
                _ => return Err(format!("`{word}` is neither forward nor back: +1h or -30s")),
            };
            let time = duration(time)?;
            let seconds = i64::try_from(time.as_secs()).ok().filter(|_| time.subsec_nanos() == 0);
            let seconds = seconds.ok_or_else(|| format!("`{word}`: a clock is set by whole seconds"))?;
            if seconds > FARTHEST {
                return Err(format!("`{word}`: a clock is set by twenty years at most"));
            }
            Ok(sign * seconds)
        };
        self.take(read())
    }
}

/// `1%`, `0.25%`.
fn share(text: &str) -> Result<Share, String> {
    let error = || format!("`{text}` is no share of frames: more than 0% and up to 100%, as 1% or 0.25%");
    let number = text.strip_suffix('%').ok_or_else(error)?;
    let (whole, rest) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(rest) || rest.len() > 4 {
        return Err(error());
    }
    let millionths = format!("{whole}{rest:0<4}").parse().map_err(|_| error())?;
    Share::millionths(millionths).filter(|_| millionths > 0).ok_or_else(error)
}

/// `10mbit`, `1gbit`.
fn bits(text: &str) -> Result<u64, String> {
    let error = || format!("`{text}` is no rate: a number with kbit, mbit or gbit, as 10mbit");
    let at = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(error)?;
    let (number, unit) = text.split_at(at);
    let unit: u64 = match unit.to_ascii_lowercase().as_str() {
        "kbit" => 1_000,
        "mbit" => 1_000_000,
        "gbit" => 1_000_000_000,
        _ => return Err(error()),
    };
    let number: u64 = number.parse().map_err(|_| error())?;
    number.checked_mul(unit).filter(|bits| *bits > 0).ok_or_else(error)
}

fn positive(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| format!("`{text}` is no number from 1 on"))
}

fn positive_octets(text: &str) -> Result<u64, String> {
    octets(text)
        .and_then(|octets| if octets > 0 { Ok(octets) } else { Err("nothing at all is not slow".to_owned()) })
}
