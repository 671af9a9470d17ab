//! What is measured, round by round.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cable::{Cable, prefix};
use crate::content::{BOOT_NAME, Content, File};
use crate::dhcp::{self, Ladder};
use crate::http::{self, Fetched, as_f64};
use crate::report::{Better, LEAST, OURS, Report, Target};
use crate::server::Server;
use crate::tftp::{self, Wanted};
use crate::{carrier, meshboot, rivals, say};

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
const MB: f64 = 1e6;
/// What is asked by TFTP: windows, and clients at once.
const TRANSFERS: [(u16, usize, Target); 5] = [
    (1, 1, Target::Times(1.5)),
    (4, 1, Target::Times(3.0)),
    (16, 1, Target::Told),
    (1, 16, Target::Told),
    (4, 16, Target::Told),
];
/// wrk's connections; the product takes 64.
const CONNECTIONS: usize = 8;
/// Ours with many clients on a link: the product's core in the benchmark's shell.
const SHARED: &str = OURS;
/// The product as it is, whose one allocation was made before.
const AS_IS: &str = "meshboot as is";

/// How much is done in one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) rounds: usize,
    boot_mib: u64,
    root_mib: u64,
    /// Each run of perfdhcp.
    dhcp_seconds: f64,
    /// Each run of wrk.
    http_seconds: u64,
    solicits: usize,
    carriers: usize,
}

/// Programs that are in no fixed place.
#[derive(Debug)]
pub(crate) struct Programs {
    /// The product.
    pub(crate) meshboot: PathBuf,
    /// This program.
    pub(crate) myself: PathBuf,
}

/// All servers, and what they did so far.
#[derive(Debug)]
pub(crate) struct Bench {
    size: Size,
    only: Option<String>,
    content: Content,
    near: Ipv6Addr,
    product: Server,
    shared: Server,
    dhcp: Vec<Server>,
    tftp: Vec<Server>,
    least: Server,
    http: Vec<Server>,
    ladders: Vec<Ladder>,
    report: Report,
}

// === impl Size ===

impl Size {
    pub(crate) const FULL: Self = Self {
        rounds: 5,
        boot_mib: 64,
        root_mib: 1024,
        dhcp_seconds: 3.0,
        http_seconds: 5,
        solicits: 500,
        carriers: 3,
    };
    pub(crate) const QUICK: Self = Self {
        rounds: 2,
        boot_mib: 8,
        root_mib: 128,
        dhcp_seconds: 1.0,
        http_seconds: 1,
        solicits: 50,
        carriers: 1,
    };
}

// === impl Bench ===

impl Bench {
    /// Starts every server, and proves that they serve the same octets to clients that others wrote.
    pub(crate) fn start(
        size: Size,
        only: Option<String>,
        folder: &Path,
        programs: &Programs,
    ) -> Result<Self> {
        let content = Content::make(folder, size.boot_mib, size.root_mib)?;
        let product = meshboot::start(&programs.meshboot, &content, folder)?;
        let own = |name, cable: &str, verb: &str, file: &Path| {
            let text = |path: &Path| path.to_string_lossy().into_owned();
            let line = [text(&programs.myself), verb.to_owned(), text(file)];
            Server::start(name, Cable::plug(cable)?, folder, &line)
        };
        let shared = own(SHARED, "shared", "--serve-durable", &folder.join("journal"))?;
        let mut least = own(LEAST, "least", "--serve-least", &content.boot.path)?;
        least.wait_for_port(69)?;
        let threads = std::thread::available_parallelism()?.get();
        let dhcp = vec![
            rivals::kea("kea", folder, None)?,
            rivals::kea("kea threads", folder, Some(threads))?,
            rivals::dnsmasq_dhcp(folder)?,
        ];
        let report = Report::default();
        let tftp = vec![
            rivals::dnsmasq_tftp(&content, folder)?,
            rivals::tftpd_hpa(&content, folder)?,
            rivals::atftpd(&content, folder)?,
        ];
        let http = vec![rivals::nginx(&content, folder)?];
        let ladders = (0..dhcp.len() + 2).map(|_| Ladder::new(size.dhcp_seconds)).collect();
        let near = prefix()?.near();
        let mut bench =
            Self { size, only, content, near, product, shared, dhcp, tftp, least, http, ladders, report };
        bench.prove()?;
        Ok(bench)
    }

    /// Measures everything once.
    pub(crate) fn round(&mut self) -> Result<()> {
        if self.wants("dhcp") {
            self.product.cable.address_far(false)?;
            self.exchanges()?;
            self.solicits()?;
            self.product.cable.address_far(true)?;
        }
        if self.wants("tftp") {
            for (window, clients, target) in TRANSFERS {
                self.transfers(window, clients, target)?;
            }
        }
        if self.wants("http") {
            self.downloads()?;
        }
        if self.wants("carrier") {
            for _ in 0..self.size.carriers {
                let delay = carrier::advertised(&self.product.cable)?;
                self.report.enter(("carrier to RA", "ms", Better::Lower, Target::Below(50.0)), OURS, delay);
            }
        }
        Ok(())
    }

    /// What it all came to.
    pub(crate) fn end(mut self) -> Result<Report> {
        let row = ("peak memory", "MiB", Better::Lower, Target::Told);
        // What does all of it at once is not to be compared with what does a part.
        let servers = [(" (all of it)", &self.product)].into_iter();
        let servers = servers.chain(self.dhcp.iter().map(|server| (" (DHCPv6)", server)));
        let servers = servers.chain(self.tftp.iter().map(|server| (" (TFTP)", server)));
        for (what, server) in servers.chain(self.http.iter().map(|server| (" (HTTP)", server))) {
            self.report.enter(row, &format!("{}{what}", server.name), server.peak_mib()?);
        }
        Ok(self.report)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == part)
    }

    /// The figures mean something only if all of them serve the same, and serve it rightly.
    fn prove(&mut self) -> Result<()> {
        let Content { boot, root, .. } = &self.content;
        let proof = Arc::new(std::fs::read(&boot.path)?);
        let mut notes = Vec::new();
        for server in std::iter::once(&self.product).chain(&self.tftp).chain(&self.http).chain([&self.least])
        {
            server.cable.address_far(true)?;
        }
        for server in std::iter::once(&self.product).chain(&self.tftp).filter(|_| self.wants("tftp")) {
            for window in [1, 4, 16] {
                let wanted = self.wanted(window, Some(Arc::clone(&proof)));
                let (_, fetched) = tftp::fetch_all(&server.cable.far.network()?, &wanted, 1)
                    .with_context(|| format!("{}, TFTP in windows of {window}", server.name))?;
                let served = fetched.first().map_or(1, |fetched| fetched.window);
                if served != window {
                    notes.push(format!("{}: asked for windows of {window}, serves {served}", server.name));
                }
            }
            let url = format!("tftp://[{}]/{BOOT_NAME}", self.near);
            let blocks = ["--tftp-blksize", "1428"];
            let found = http::digest(&server.cable, &url, &blocks).with_context(|| server.name.to_owned())?;
            ensure!(found == boot.sha256, "{}: curl has another file by TFTP", server.name);
        }
        for server in std::iter::once(&self.product).chain(&self.http).filter(|_| self.wants("http")) {
            let found = http::digest(&server.cable, &http::url(self.near, root), &[]);
            ensure!(
                found.with_context(|| server.name.to_owned())? == root.sha256,
                "{}: another file",
                server.name
            );
        }
        for server in
            [&self.product, &self.shared].into_iter().chain(&self.dhcp).filter(|_| self.wants("dhcp"))
        {
            server.cable.wait_for("an Advertise", || dhcp::answers(&server.cable)).context(server.name)?;
        }
        notes.into_iter().for_each(|note| self.report.note(note));
        Ok(())
    }

    fn exchanges(&mut self) -> Result<()> {
        let row = ("DHCPv6 exchanges of new clients", "1/s", Better::Higher, Target::Times(1.5));
        let ours = [(SHARED, &self.shared), (AS_IS, &self.product)];
        let all = ours.into_iter().chain(self.dhcp.iter().map(|server| (server.name, server)));
        for ((name, server), ladder) in all.zip(&mut self.ladders) {
            let run = ladder.climb(&server.cable).with_context(|| name.to_owned())?;
            say(&format!("  {name}: {run:?}"));
            self.report.enter(row, name, run.rate);
            if run.shared > 0 {
                self.report.note(format!("{name}: many clients get one address"));
            }
        }
        Ok(())
    }

    fn solicits(&mut self) -> Result<()> {
        let row = ("Solicit to Advertise, median of a round", "ms", Better::Lower, Target::Below(1.0));
        // The product's is the one that counts; that of many clients has a `fdatasync` in each.
        let ours = [(OURS, &self.product), ("meshboot, durable anew", &self.shared)];
        for (name, server) in ours.into_iter().chain(self.dhcp.iter().map(|server| (server.name, server))) {
            let mut delays = dhcp::solicit(&server.cable, self.size.solicits)?;
            delays.sort_by(f64::total_cmp);
            self.report.enter(row, name, delays.get(delays.len() / 2).copied().context("no delays")?);
        }
        Ok(())
    }

    fn wanted(&self, window: u16, proof: Option<Arc<Vec<u8>>>) -> Wanted {
        Wanted { server: self.near, file: BOOT_NAME.to_owned(), window, proof }
    }

    fn transfers(&mut self, window: u16, clients: usize, target: Target) -> Result<()> {
        let what = match clients {
            1 => format!("TFTP, window {window}"),
            _ => format!("TFTP, window {window}, {clients} clients"),
        };
        let wanted = self.wanted(window, None);
        let least = (window == 1 && clients == 1).then_some(&self.least);
        for server in std::iter::once(&self.product).chain(&self.tftp).chain(least) {
            self.content.boot.warm()?;
            let cpu = server.cpu()?;
            let network = server.cable.far.network()?;
            let (seconds, fetched) = tftp::fetch_all(&network, &wanted, clients)
                .with_context(|| format!("{what}, {}", server.name))?;
            let octets: u64 = fetched.iter().map(|one| one.octets).sum();
            ensure!(
                octets == self.content.boot.size * u64::try_from(clients)?,
                "{}: {fetched:?}",
                server.name
            );
            let silences: u32 = fetched.iter().map(|one| one.silences).sum();
            if silences > 0 {
                let of = (server.name, &what);
                self.report
                    .note(format!("{}: {} had silences of a second, {silences} in a round", of.0, of.1));
            }
            let fetched = Fetched { seconds, octets: as_f64(octets), requests: 1.0 };
            enter(&mut self.report, &what, target, server, &fetched, cpu)?;
        }
        Ok(())
    }

    fn downloads(&mut self) -> Result<()> {
        let (size, near) = (self.size, self.near);
        let Content { root, small, .. } = &self.content;
        let wanted = Target::Times(0.9);
        type Load<'a> = (&'static str, &'a dyn Fn(&Cable) -> Result<Fetched>);
        let wrk = |cable: &Cable, file: &File| {
            http::many(cable, &http::url(near, file), CONNECTIONS, size.http_seconds)
        };
        let loads: [Load<'_>; 2] = [
            ("HTTP, one client", &|cable| http::one(cable, near, root)),
            ("HTTP, 8 clients", &|cable| wrk(cable, root)),
        ];
        for (what, load) in loads {
            for server in std::iter::once(&self.product).chain(&self.http) {
                root.warm()?;
                let cpu = server.cpu()?;
                let fetched = load(&server.cable).with_context(|| format!("{what}, {}", server.name))?;
                enter(&mut self.report, what, wanted, server, &fetched, cpu)?;
            }
        }
        let row = ("HTTP, 8 clients, 1000 octets", "1/s", Better::Higher, wanted);
        for server in std::iter::once(&self.product).chain(&self.http) {
            let fetched = wrk(&server.cable, small)?;
            self.report.enter(row, server.name, fetched.requests / fetched.seconds);
        }
        Ok(())
    }
}

/// A transfer's rate, and what it cost.
pub(crate) fn enter(
    report: &mut Report,
    what: &str,
    target: Target,
    server: &Server,
    fetched: &Fetched,
    before: Duration,
) -> Result<()> {
    report.enter((what, "MB/s", Better::Higher, target), server.name, fetched.octets / MB / fetched.seconds);
    // The last block is still being acknowledged.
    std::thread::sleep(Duration::from_millis(50));
    let cpu = server.cpu()?.saturating_sub(before).as_secs_f64();
    let row = format!("{what}, processor time");
    report.enter((&row, "s/GiB", Better::Lower, Target::Told), server.name, cpu / (fetched.octets / GIB));
    Ok(())
}
