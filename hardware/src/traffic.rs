//! What this computer does to the frames of a cable: it drops them, or lets them through later and slower.
//!
//! A cable is a bridge of this computer with a tap interface for each end. What a tap sends goes to the machine behind it,
//! so a queueing discipline on both taps is one on both directions ([`Impairment`], by `tc`). Frames are dropped by a table
//! of nftables that goes by the name of one of the taps: both ends keep their carrier, and the table outlives a machine
//! that is switched off and on, which a tap does not.
//!
//! Whether the kernel has what it takes is found out by trying it on devices of our own, in a network namespace that ends
//! with the trial.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::process::{Invocation, Outcome, RunError};

/// The kernel does it at once, unless it has to load a module.
const LIMIT: Duration = Duration::from_secs(30);
/// A share is counted in so many parts.
const WHOLE: u32 = 1_000_000;
/// A bucket holds what comes in this time at its rate, and never less than some large frames.
const BURST: Duration = Duration::from_millis(20);
const LEAST_BURST: u64 = 16 << 10;
/// How long a frame may wait behind others before it is dropped for want of room.
const QUEUE_MS: u32 = 400;
/// How many frames are on their way or wait, at most: as many as come in a second at 100 Mbit/s.
const QUEUE_FRAMES: u32 = 10_000;

/// One device sends to another: each word on the output is something that works.
const TRIAL: &str = "\
ip link add dev meshboot0 type veth peer name meshboot1 || exit 1
tc qdisc replace dev meshboot0 root netem delay 1ms loss 1% rate 1mbit && echo netem
tc qdisc del dev meshboot0 root
tc qdisc replace dev meshboot0 root tbf rate 1mbit burst 16kb latency 400ms && echo tbf
nft -f - <<'END' && echo frames
table bridge meshboot {
    chain frames {
        type filter hook forward priority filter; policy accept;
        iifname \"meshboot0\" numgen random mod 1000000 < 10000 drop
    }
}
END
exit 0
";

/// What this computer's kernel and programs can do to frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Means {
    /// Delay, lose and pace them, by the queueing discipline `netem`.
    pub netem: bool,
    /// Pace them, by the queueing discipline `tbf`.
    pub tbf: bool,
    /// Drop them between the ports of a bridge, by nftables.
    pub frames: bool,
}

/// A share of a whole, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(u32);

/// What a cable does to what is sent over it, each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Impairment {
    /// How long a frame takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Duration>,
    /// By how much more or less than that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Duration>,
    /// How many of the frames are lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<Share>,
    /// How many bits go through in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
}

// === impl Means ===

impl Means {
    /// Finds out by trying; needs the administrator's rights.
    ///
    /// # Errors
    ///
    /// [`RunError`]: not even a device to try it on could be made.
    pub async fn probe() -> Result<Self, RunError> {
        let said = Invocation::new("unshare", LIMIT).args(["--net", "sh", "-c", TRIAL]).run().await?;
        let works = |what: &str| said.lines().any(|line| line == what);
        Ok(Self { netem: works("netem"), tbf: works("tbf"), frames: works("frames") })
    }
}

// === impl Share ===

impl Share {
    /// All of it.
    pub const ALL: Self = Self(WHOLE);

    /// So many millionths; none if that is more than the whole.
    #[must_use]
    pub fn millionths(number: u32) -> Option<Self> {
        (number <= WHOLE).then_some(Self(number))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_cent = WHOLE / 100;
        let (whole, rest) = (self.0 / per_cent, self.0 % per_cent);
        let rest = format!("{rest:04}");
        match rest.trim_end_matches('0') {
            "" => write!(f, "{whole}%"),
            rest => write!(f, "{whole}.{rest}%"),
        }
    }
}

// === impl Impairment ===

impl Impairment {
    /// The arguments of `netem` that do it.
    #[must_use]
    pub fn netem(&self) -> Vec<String> {
        let mut words = vec!["netem".to_owned(), "limit".to_owned(), QUEUE_FRAMES.to_string()];
        if self.latency.is_some() || self.jitter.is_some() {
            let us = |time: Option<Duration>| format!("{}us", time.unwrap_or_default().as_micros());
            words.extend(["delay".to_owned(), us(self.latency)]);
            words.extend(self.jitter.map(|jitter| us(Some(jitter))));
        }
        if let Some(loss) = self.loss {
            words.extend(["loss".to_owned(), loss.to_string()]);
        }
        if let Some(rate) = self.rate {
            words.extend(["rate".to_owned(), format!("{rate}bit")]);
        }
        words
    }

    /// The arguments of `tbf` that keep this rate.
    #[must_use]
    pub fn tbf(rate: u64) -> Vec<String> {
        let burst = u128::from(rate) / 8 * BURST.as_micros() / 1_000_000;
        let burst = u64::try_from(burst).unwrap_or(u64::MAX).max(LEAST_BURST);
        let words = ["tbf", "rate", &format!("{rate}bit"), "burst", &format!("{burst}b")];
        words.into_iter().map(str::to_owned).chain(["latency".to_owned(), format!("{QUEUE_MS}ms")]).collect()
    }
}

impl fmt::Display for Impairment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| match time.as_micros() {
            micros if micros % 1000 == 0 => format!("{}ms", micros / 1000),
            micros => format!("{micros}us"),
        };
        let words = [
            self.latency.map(|time| format!("latency {}", ms(time))),
            self.jitter.map(|time| format!("jitter {}", ms(time))),
            self.loss.map(|share| format!("loss {share}")),
            self.rate.map(|bits| format!("rate {bits}bit/s")),
        ];
        let words: Vec<String> = words.into_iter().flatten().collect();
        f.write_str(&words.join(", "))
    }
}

/// Puts a queueing discipline on a tap, in the place of what is there. Twice is harmless.
///
/// # Errors
///
/// [`RunError`].
pub async fn shape(tap: &str, discipline: &[String]) -> Result<(), RunError> {
    let words = ["qdisc", "replace", "dev", tap, "root"];
    Invocation::new("tc", LIMIT).args(words).args(discipline).run().await.map(drop)
}

/// Takes a tap's queueing discipline away, so that frames do not wait. Twice is harmless, also where there is no tap.
///
/// # Errors
///
/// [`RunError`].
pub async fn unshape(tap: &str) -> Result<(), RunError> {
    let words = ["qdisc", "del", "dev", tap, "root"];
    let done = gone(Invocation::new("tc", LIMIT).args(words)).await?;
    // As libvirt has it on every tap: there is nothing between a virtual machine and the bridge to wait for. Where it had
    // not, the kernel's own choice is as good.
    if done {
        let words = ["qdisc", "replace", "dev", tap, "root", "handle", "0:", "noqueue"];
        let _ = Invocation::new("tc", LIMIT).args(words).outcome().await?;
    }
    Ok(())
}

/// Drops this share of the frames that come from a tap or go to it, in a table of this name. Twice is harmless.
///
/// # Errors
///
/// [`RunError`].
pub async fn drop_frames(table: &str, tap: &str, share: Share) -> Result<(), RunError> {
    nft(&dropping(table, tap, share)).await
}

/// Lets all frames through again. Twice is harmless.
///
/// # Errors
///
/// [`RunError`].
pub async fn pass_frames(table: &str) -> Result<(), RunError> {
    nft(&removing(table)).await
}

/// Made and removed, so that it need not be there: nftables does both or neither.
fn removing(table: &str) -> String {
    format!("table bridge {table}\ndelete table bridge {table}\n")
}

fn dropping(table: &str, tap: &str, share: Share) -> String {
    let chance =
        if share == Share::ALL { String::new() } else { format!("numgen random mod {WHOLE} < {} ", share.0) };
    format!(
        "{}table bridge {table} {{\n    chain frames {{\n        \
         type filter hook forward priority filter; policy accept;\n        \
         iifname \"{tap}\" {chance}counter drop\n        oifname \"{tap}\" {chance}counter drop\n    }}\n}}\n",
        removing(table)
    )
}

async fn nft(rules: &str) -> Result<(), RunError> {
    Invocation::new("nft", LIMIT).args(["-f", "-"]).stdin(rules).run().await.map(drop)
}

/// Runs a command that takes something away. Whether it was there.
async fn gone(command: Invocation) -> Result<bool, RunError> {
    /// What `tc` says of a discipline, and of a device, that is not there.
    const ABSENT: [&str; 4] =
        ["No such file or directory", "Cannot find device", "Invalid handle", "handle of zero"];
    let Outcome { code, stderr, .. } = command.outcome().await?;
    match code {
        Some(0) => Ok(true),
        _ if ABSENT.iter().any(|words| stderr.contains(words)) => Ok(false),
        code => Err(RunError::Failed { command: command.to_string(), code, stderr }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_written_as_they_are_said() {
        for (millionths, text) in
            [(0, "0%"), (10_000, "1%"), (2_500, "0.25%"), (1_000_000, "100%"), (1, "0.0001%")]
        {
            assert_eq!(Share::millionths(millionths).unwrap().to_string(), text);
        }
        assert_eq!(Share::millionths(1_000_001), None);
    }

    #[test]
    fn netem_is_told_what_was_asked_and_no_more() {
        let all = Impairment {
            latency: Some(Duration::from_millis(50)),
            jitter: Some(Duration::from_micros(2500)),
            loss: Share::millionths(10_000),
            rate: Some(10_000_000),
        };
        assert_eq!(all.netem().join(" "), "netem limit 10000 delay 50000us 2500us loss 1% rate 10000000bit");
        assert_eq!(all.to_string(), "latency 50ms, jitter 2500us, loss 1%, rate 10000000bit/s");
        let rate = Impairment { rate: Some(8_000), ..Impairment::default() };
        assert_eq!(rate.netem().join(" "), "netem limit 10000 rate 8000bit");
    }

    #[test]
    fn a_bucket_holds_some_frames_however_slow_it_is() {
        assert_eq!(Impairment::tbf(8_000).join(" "), "tbf rate 8000bit burst 16384b latency 400ms");
        assert_eq!(
            Impairment::tbf(1_000_000_000).join(" "),
            "tbf rate 1000000000bit burst 2500000b latency 400ms"
        );
    }

    #[test]
    fn a_table_is_replaced_and_goes_by_one_tap() {
        let rules = dropping("meshboot-fault-f1", "mb1234m1p0", Share::ALL);
        assert!(rules.starts_with(&removing("meshboot-fault-f1")));
        assert!(rules.contains("iifname \"mb1234m1p0\" counter drop"));
        assert!(rules.contains("oifname \"mb1234m1p0\" counter drop"));
        let rules = dropping("meshboot-fault-f1", "mb1234m1p0", Share::millionths(2_500).unwrap());
        assert!(rules.contains("iifname \"mb1234m1p0\" numgen random mod 1000000 < 2500 counter drop"));
    }
}
