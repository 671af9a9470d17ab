//! A port of this machine: whether it is served, what is advertised on it, and what each kind of firmware is answered.

use std::fmt::Write as _;
use std::net::Ipv6Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use mesh::{Far, Ledger, LinkStatus, Mac, Port};
use netboot_proto::ra::{MAX_RTR_ADV_INTERVAL, MIN_RTR_ADV_INTERVAL};
use netboot_proto::wire::describe::{self, Description};
use netboot_proto::wire::dhcp6::{ALL_SERVERS, CLIENT_PORT, SERVER_PORT};
use netboot_proto::wire::frame::{Frame, Payload};
use netboot_server::{NotAPort, Surveyed, survey};
use schemars::JsonSchema;
use serde::Serialize;

use super::ask::{FIRMWARES, Firmware};
use super::boot_files_here;
use super::cores::{Cores, Happening};
use super::scene::{LinkView, Scene, port_named};
use super::verdict::{Outcome, Sent, Verdict, indented};
use crate::exit::{Code, Failure, OrFail as _};
use crate::gateway::netboot_config;
use crate::gateway::settings::{GatewaySettings, STATUS_PORT};
use crate::gateway::status::NodeStatus;
use crate::progress::Reporter;
use crate::store::redb::RedbStore;

/// The gateway's page is on this machine.
const PAGE_LIMIT: Duration = Duration::from_secs(3);
/// Who asks where nobody is known at the far end.
const SOMEBODY: Mac = Mac([0x02, 0, 0, 0, 0, 2]);

/// What is answered on a port.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PortAccount {
    /// The port's name.
    pub port: String,
    /// The link, if the port is a mesh port.
    pub link: Option<LinkView>,
    /// Whether machines are served on it at this moment.
    pub served: bool,
    /// Why not, and what could not be found out.
    pub reasons: Vec<String>,
    /// What is advertised on it.
    pub advertisement: Option<Sent>,
    /// What each kind of firmware is answered.
    pub answers: Vec<Asked>,
}

/// What one kind of firmware is answered.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Asked {
    /// Its architecture, as it numbers it.
    pub architecture: u16,
    /// IANA's name of that.
    pub name: &'static str,
    /// What it asks.
    pub asks: Description,
    /// What becomes of that.
    pub verdict: Verdict,
}

/// What is known beside the settings.
#[derive(Debug, Default)]
struct Witness {
    ledger: Ledger,
    /// The links of the gateway that runs; none if it does not answer.
    links: Option<Vec<LinkStatus>>,
    /// What could not be found out.
    reasons: Vec<String>,
}

/// Shows what is answered on the port of this machine that `name` names.
///
/// # Errors
///
/// This is no machine of a mesh, or it has no such port.
pub async fn run(path: &Path, name: &str, reporter: &Reporter) -> Result<(), Failure> {
    let settings = GatewaySettings::read(path).or_fail(Code::Unavailable).map_err(|failure| {
        failure.next(
            "a port is explained on its own machine: log in there, as root; --pcap FILE explains a recording anywhere",
        )
    })?;
    let witness = Witness::ask(&settings).await;
    let config = netboot_config(&settings, &witness.ledger).or_fail(Code::Config)?;
    let surveyed = survey(&config).await.or_fail(Code::Unavailable)?;
    let is_it = |link: &&Surveyed| {
        let number = link.port.is_ok_and(|port| name.parse() == Ok(port.get()));
        link.name == name || name.parse() == Ok(link.mac) || number
    };
    let found = surveyed.iter().find(is_it);
    let port = match found {
        Some(Surveyed { port: Err(reason), name, mac, .. }) => {
            let reasons = vec![why_not(*reason, *mac, &settings)];
            return tell(&PortAccount::of_no_port(name, reasons), reporter);
        }
        Some(Surveyed { port: Ok(index), name, mac, .. }) => {
            Port { index: *index, mac: *mac, name: name.clone() }
        }
        // The machine has it, and it is not plugged in now, or this is another computer.
        None => port_named(&settings.machine, name, path)?.clone(),
    };
    let mut scene = Scene::of_port(&settings, &config, boot_files_here(&settings), &port);
    if let Some(link) = found {
        scene.mtu = link.mtu;
    }
    tell(&account(scene, found, witness), reporter)
}

fn tell(account: &PortAccount, reporter: &Reporter) -> Result<(), Failure> {
    reporter.result(account, &account.text());
    Ok(())
}

fn why_not(reason: NotAPort, mac: Mac, settings: &GatewaySettings) -> String {
    let is_way_out = settings.seed.as_ref().is_some_and(|seed| seed.excluded.contains(&mac));
    if is_way_out { NotAPort::Excluded.to_string() } else { reason.to_string() }
}

/// What is answered on a mesh port.
fn account(mut scene: Scene, found: Option<&Surveyed>, witness: Witness) -> PortAccount {
    let mut reasons = witness.reasons;
    let mut served = true;
    match found {
        None => reasons.push("this computer has no such port now".to_owned()),
        Some(link) if !link.carrier => reasons.push("no cable carries".to_owned()),
        Some(link) if !link.link_local => {
            reasons.push("it has no link-local address yet, so no router can be advertised".to_owned());
        }
        Some(_) => {}
    }
    served &= found.is_some_and(|link| link.carrier && link.link_local);
    let status = witness.links.as_ref().map(|links| links.iter().find(|status| status.link == scene.link));
    let mut fault = None;
    match status {
        // The reason was told above.
        None => served = false,
        Some(None) => {
            served = false;
            reasons.push("the gateway that runs does not serve it".to_owned());
        }
        Some(Some(status)) => {
            scene.forced |= status.forced;
            scene.far = status.far_mac.map(|mac| Far { mac, machine: status.far_machine }).or(scene.far);
            reasons.extend(status.reason.clone());
            fault = status.faults.first().filter(|_| !status.forced);
        }
    }
    served &= fault.is_none();
    let now = Instant::now();
    let mut cores = Cores::new(scene.clone(), now);
    let advertisement = cores.take_happenings().into_iter().find_map(|(_, happening)| match happening {
        Happening::Advertised { sent, .. } => Some(sent),
        Happening::Judged { .. } => None,
    });
    let asked = |firmware: Firmware| {
        let (asks, verdict) = ask(firmware, &scene, now)?;
        let verdict = match fault {
            Some(fault) => verdict.instead(Outcome::NotServed, format!("this link is not served: {fault}")),
            None => verdict,
        };
        let name = describe::architecture(firmware.number).unwrap_or("unknown");
        Some(Asked { architecture: firmware.number, name, asks, verdict })
    };
    PortAccount {
        port: scene.port.clone(),
        link: Some(scene.view()),
        served,
        reasons,
        advertisement,
        answers: FIRMWARES.into_iter().filter_map(asked).collect(),
    }
}

/// What a firmware's Solicit is answered if it is the first on the link.
fn ask(firmware: Firmware, scene: &Scene, now: Instant) -> Option<(Description, Verdict)> {
    let mac = scene.far.map_or(SOMEBODY, |far| far.mac);
    let bytes = firmware.solicit(mac);
    let frame = Frame {
        mac: Some(mac),
        source: mac.link_local(),
        destination: ALL_SERVERS,
        hop_limit: 1,
        payload: Payload::Udp { from: CLIENT_PORT, to: SERVER_PORT, bytes: &bytes },
    };
    Cores::new(scene.clone(), now).hear(&frame, now)
}

// === impl Witness ===

impl Witness {
    /// What the gateway that runs says, or else its ledger's file.
    async fn ask(settings: &GatewaySettings) -> Self {
        let vip = settings.block().map(mesh::Block::vip);
        let page = match vip {
            Ok(vip) => page(vip).await,
            Err(_) => None,
        };
        if let Some(page) = page.filter(|page| page.machine.id == settings.machine.id) {
            let ledger = Ledger::restore(page.machines, []).unwrap_or_default();
            return Self { ledger, links: Some(page.links), reasons: Vec::new() };
        }
        let mut reasons = vec![
            "no gateway answers on this machine, so nothing is served now: this is what one would do"
                .to_owned(),
        ];
        let ledger = RedbStore::peek(&settings.ledger).unwrap_or_else(|error| {
            reasons.push(format!("what the ledger knows of it is left out: {:#}", anyhow::Error::new(error)));
            Ledger::default()
        });
        Self { ledger, links: None, reasons }
    }
}

async fn page(vip: Ipv6Addr) -> Option<NodeStatus> {
    let client = reqwest::Client::builder().no_proxy().timeout(PAGE_LIMIT).build().ok()?;
    let answer = client.get(format!("http://[{vip}]:{STATUS_PORT}/status")).send().await.ok()?;
    answer.error_for_status().ok()?.json().await.ok()
}

// === impl PortAccount ===

impl PortAccount {
    fn of_no_port(port: &str, reasons: Vec<String>) -> Self {
        Self {
            port: port.to_owned(),
            link: None,
            served: false,
            reasons,
            advertisement: None,
            answers: Vec::new(),
        }
    }

    /// The account for people.
    #[must_use]
    pub fn text(&self) -> String {
        let Some(link) = &self.link else {
            return format!("{} is no mesh port: {}", self.port, self.reasons.join("; "));
        };
        let mut out = format!("{}\n", link.text());
        // Writing to a String cannot fail.
        let _infallible = match (self.served, self.reasons.as_slice()) {
            (true, []) => writeln!(out, "  served"),
            (true, reasons) => writeln!(out, "  served: {}", reasons.join("; ")),
            (false, reasons) => writeln!(out, "  not served: {}", reasons.join("; ")),
        };
        if let Some(sent) = &self.advertisement {
            let (least, most) = (MIN_RTR_ADV_INTERVAL.as_secs(), MAX_RTR_ADV_INTERVAL.as_secs());
            let _infallible = writeln!(
                out,
                "\nto {}, every {least} to {most} s, to who solicits it, and before a DHCPv6 client is answered:",
                sent.to
            );
            let _infallible = writeln!(out, "{}", indented(&sent.says.to_string(), 2));
        }
        for Asked { architecture, name, asks, verdict } in &self.answers {
            let _infallible = writeln!(out, "\narchitecture {architecture} ({name}) asks:");
            let _infallible = writeln!(out, "{}", indented(&asks.to_string(), 2));
            let _infallible = write!(out, "{}", verdict.text());
        }
        out
    }
}
