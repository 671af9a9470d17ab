//! What is counted, for Prometheus: by port and, where it makes sense, by stage.
//!
//! The labels are few and the machine's own: ports, stages, message types, reasons from a fixed list. Nothing that a
//! client says becomes one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mesh::{FaultKind, LinkFault, Stage};
use netboot_proto::boot::BootRefusal;
use netboot_proto::effect::Refusal;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// From a quarter of a second to an hour and a half.
const STAGE_BUCKETS: (f64, f64, u16) = (0.25, 2.0, 15);
/// From a tenth of a millisecond to a second and a half.
const ANSWER_BUCKETS: (f64, f64, u16) = (0.0001, 4.0, 8);

/// The counters of one machine. Copies count together.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    boots: Family<Port, Counter>,
    stages: Family<PortStage, Counter>,
    bytes: Family<PortStage, Counter>,
    refusals: Family<PortReason, Counter>,
    advertisements: Family<Port, Counter>,
    faults: Family<PortFault, Gauge>,
    stage_seconds: Family<PortStage, Histogram, fn() -> Histogram>,
    boot_seconds: Family<Port, Histogram, fn() -> Histogram>,
    dhcp_seconds: Family<PortMessage, Histogram, fn() -> Histogram>,
    configuration_seconds: Family<Port, Histogram, fn() -> Histogram>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Port {
    port: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortStage {
    port: String,
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortReason {
    port: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortFault {
    port: String,
    fault: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortMessage {
    port: String,
    message: &'static str,
}

// === impl Metrics ===

impl Metrics {
    /// Everything at zero.
    pub(crate) fn new() -> Self {
        let stages = || histogram(STAGE_BUCKETS);
        let answers = || histogram(ANSWER_BUCKETS);
        let mut new = Self {
            registry: Arc::default(),
            boots: Family::default(),
            stages: Family::default(),
            bytes: Family::default(),
            refusals: Family::default(),
            advertisements: Family::default(),
            faults: Family::default(),
            stage_seconds: Family::new_with_constructor(stages),
            boot_seconds: Family::new_with_constructor(stages),
            dhcp_seconds: Family::new_with_constructor(answers),
            configuration_seconds: Family::new_with_constructor(stages),
        };
        let mut registry = Registry::with_prefix("meshboot");
        let r = &mut registry;
        r.register("boots", "Machines whose firmware was given a boot file", new.boots.clone());
        r.register("stages", "Stages entered by the boots on a link", new.stages.clone());
        r.register("sent_bytes", "Octets of boot files, images and configurations sent", new.bytes.clone());
        r.register("refusals", "Requests that were not served, by reason", new.refusals.clone());
        r.register("router_advertisements", "Router advertisements sent", new.advertisements.clone());
        r.register("link_fault", "What is wrong with a link at the moment", new.faults.clone());
        let in_seconds = Unit::Seconds;
        let help = "How long boots were in a stage before they came further";
        r.register_with_unit("stage", help, in_seconds.clone(), new.stage_seconds.clone());
        let help = "How long boots took from their firmware's first question to a Ready node";
        r.register_with_unit("boot", help, in_seconds.clone(), new.boot_seconds.clone());
        let help = "How long DHCPv6 clients waited for an answer, the ledger included";
        r.register_with_unit("dhcp_answer", help, in_seconds.clone(), new.dhcp_seconds.clone());
        let help = "How long it took to make a machine's configuration";
        r.register_with_unit("configuration", help, in_seconds, new.configuration_seconds.clone());
        new.registry = Arc::new(registry);
        new
    }

    /// All of them, in the text format of OpenMetrics, without the mark of its end.
    pub(crate) fn encode(&self, out: &mut String) -> fmt::Result {
        text::encode_registry(out, &self.registry)
    }

    pub(crate) fn count_boot(&self, port: &str) {
        self.boots.get_or_create(&Port::of(port)).inc();
    }

    pub(crate) fn count_stage(&self, port: &str, stage: Stage) {
        self.stages.get_or_create(&PortStage::of(port, stage)).inc();
    }

    pub(crate) fn count_bytes(&self, port: &str, stage: Stage, bytes: u64) {
        self.bytes.get_or_create(&PortStage::of(port, stage)).inc_by(bytes);
    }

    pub(crate) fn count_refusal(&self, port: &str, reason: &'static str) {
        self.refusals.get_or_create(&PortReason { port: port.to_owned(), reason }).inc();
    }

    pub(crate) fn count_advertisement(&self, port: &str) {
        self.advertisements.get_or_create(&Port::of(port)).inc();
    }

    pub(crate) fn set_faults(&self, port: &str, faults: &[LinkFault]) {
        for kind in FaultKind::ALL {
            let is = faults.iter().any(|fault| fault.kind() == kind);
            let label = PortFault { port: port.to_owned(), fault: kind.name() };
            self.faults.get_or_create(&label).set(is.into());
        }
    }

    pub(crate) fn observe_stage(&self, port: &str, stage: Stage, time: Duration) {
        self.stage_seconds.get_or_create(&PortStage::of(port, stage)).observe(time.as_secs_f64());
    }

    pub(crate) fn observe_boot(&self, port: &str, time: Duration) {
        self.boot_seconds.get_or_create(&Port::of(port)).observe(time.as_secs_f64());
    }

    pub(crate) fn observe_answer(&self, port: &str, message: &'static str, time: Duration) {
        let label = PortMessage { port: port.to_owned(), message };
        self.dhcp_seconds.get_or_create(&label).observe(time.as_secs_f64());
    }

    pub(crate) fn observe_configuration(&self, port: &str, time: Duration) {
        self.configuration_seconds.get_or_create(&Port::of(port)).observe(time.as_secs_f64());
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

// === impl Port ===

impl Port {
    fn of(port: &str) -> Self {
        Self { port: port.to_owned() }
    }
}

// === impl PortStage ===

impl PortStage {
    fn of(port: &str, stage: Stage) -> Self {
        Self { port: port.to_owned(), stage: stage.name() }
    }
}

fn histogram((start, factor, buckets): (f64, f64, u16)) -> Histogram {
    Histogram::new(exponential_buckets(start, factor, buckets))
}

/// The label of a DHCPv6 refusal.
pub(crate) fn dhcp_reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Ledger(_) => "ledger",
        Refusal::LedgerSlow { .. } => "ledger-slow",
        Refusal::Busy(_) => "busy",
        Refusal::UnknownStation => "unknown-station",
        Refusal::NotAStation(_) => "not-a-station",
        Refusal::TooManyStations => "too-many-stations",
    }
}

/// The label of a refusal to boot.
pub(crate) fn boot_reason(refusal: &BootRefusal) -> &'static str {
    match refusal {
        BootRefusal::NoArchitecture => "no-architecture",
        BootRefusal::UnknownArchitecture(_) => "unknown-architecture",
        BootRefusal::NoFile { .. } => "no-boot-file",
        BootRefusal::NoCertificate => "no-certificate",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_told_by_port_and_stage() {
        let metrics = Metrics::new();
        metrics.clone().count_boot("eth0");
        metrics.count_stage("eth0", Stage::Loading);
        metrics.count_bytes("eth0", Stage::Loading, 77);
        metrics.count_refusal("eth1", "ledger");
        metrics.observe_stage("eth0", Stage::Loading, Duration::from_secs(3));
        metrics.observe_answer("eth0", "Solicit", Duration::from_millis(2));
        metrics.set_faults("eth1", &[LinkFault::Looped { port: "eth1".to_owned() }]);
        let mut text = String::new();
        metrics.encode(&mut text).unwrap();
        for line in [
            "meshboot_boots_total{port=\"eth0\"} 1",
            "meshboot_stages_total{port=\"eth0\",stage=\"loading\"} 1",
            "meshboot_sent_bytes_total{port=\"eth0\",stage=\"loading\"} 77",
            "meshboot_refusals_total{port=\"eth1\",reason=\"ledger\"} 1",
            "meshboot_stage_seconds_count{port=\"eth0\",stage=\"loading\"} 1",
            "meshboot_stage_seconds_bucket{le=\"4.0\",port=\"eth0\",stage=\"loading\"} 1",
            "meshboot_stage_seconds_bucket{le=\"2.0\",port=\"eth0\",stage=\"loading\"} 0",
            "meshboot_dhcp_answer_seconds_count{port=\"eth0\",message=\"Solicit\"} 1",
            "meshboot_link_fault{port=\"eth1\",fault=\"looped\"} 1",
            "meshboot_link_fault{port=\"eth1\",fault=\"two-machines\"} 0",
        ] {
            assert!(text.lines().any(|told| told == line), "no `{line}` in\n{text}");
        }
    }
}
