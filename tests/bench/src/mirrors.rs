//! The mirrors beside Debian's docker-registry as a proxy: `cargo xtask bench mirrors`.
//!
//! Each has a registry of its own behind a [shaper](crate::shaper), and begins each round with nothing.

use std::fs;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use ::tests::debian::unpacked;
use ::tests::netns::Namespace;
use anyhow::{Context, Result, ensure};
use images::oci::{Compression, Config, Image, Layer};
use images::store::{Content as ManifestContent, Descriptor, Manifest, Reference, Store};

use crate::cable::{Cable, prefix};
use crate::content::{Content, Octets};
use crate::report::{Better, OURS, Report, Target};
use crate::rounds::{Programs, enter};
use crate::server::Server;
use crate::{drain, http};
use crate::{meshboot, say};

/// The registry, where only who is far away from it is.
const REGISTRY: &str = "127.0.0.1:7000";
/// The way there.
const FAR_AWAY: &str = "127.0.0.1:7001";
/// Where mirrors listen; docker.io's.
const PORT: u16 = 5000;
const RIVAL: &str = "docker-registry";
const REPOSITORY: &str = "bench/image";
/// What a mirror finds when it starts again.
const MANY: u32 = 10_000;
const RESTARTS: usize = 3;
const MIB: usize = 1 << 20;

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) rounds: usize,
    blob_mib: usize,
    warm_seconds: u64,
}

/// What mirrors are asked for, and where it is.
#[derive(Debug)]
pub(crate) struct Mirrors<'a> {
    size: Size,
    folder: &'a Path,
    programs: &'a Programs,
    content: Content,
    layer: Descriptor,
    report: Report,
}

/// A process beside a server, on its machine.
#[derive(Debug)]
struct Beside(Child);

/// What one pull came to, in seconds.
#[derive(Debug, Clone, Copy)]
struct Pull {
    first: f64,
    whole: f64,
}

// === impl Size ===

impl Size {
    pub(crate) const FULL: Self = Self { rounds: 5, blob_mib: 256, warm_seconds: 5 };
    pub(crate) const QUICK: Self = Self { rounds: 1, blob_mib: 16, warm_seconds: 1 };
}

// === impl Mirrors ===

impl<'a> Mirrors<'a> {
    /// Makes an image, and the registry that has it.
    pub(crate) fn prepare(size: Size, folder: &'a Path, programs: &'a Programs) -> Result<Self> {
        let content = Content::make(folder, 1, 1)?;
        let store = Store::open(folder.join("made"))?;
        let name: Reference = format!("docker.io/{REPOSITORY}:v1").parse()?;
        let mut layer = Layer::default();
        layer.bytes("octets", Octets::of(1).next(size.blob_mib * MIB), 0o644)?;
        let image = Image { layers: vec![layer], config: Config::default() };
        let made = image.assemble_as(&name, &store, Compression::None)?;
        let manifest = store.read(&made.digest, 1 << 20)?.context("the image has gone")?;
        let ManifestContent::Image { layers, .. } = Manifest::parse(&manifest)?.content else {
            anyhow::bail!("the image is an index")
        };
        let layer = layers.into_iter().next().context("the image has no layer")?;
        let archive = folder.join("image.tar");
        images::save::save(&store, &[name], fs::File::create(&archive)?)?;
        fill(folder, &archive)?;
        Ok(Self { size, folder, programs, content, layer, report: Report::default() })
    }

    /// Measures everything once.
    pub(crate) fn round(&mut self, number: usize) -> Result<()> {
        for name in [OURS, RIVAL] {
            let folder = self.folder.join(format!("{name}-{number}"));
            fs::create_dir_all(&folder)?;
            let cable = Cable::plug(name)?;
            cable.address_far(true)?;
            let _beside = self.registry_far_away(&cable)?;
            let mut server = self.start(name, cable, &folder)?;
            server.wait_for_port(PORT)?;
            self.cold(&server)?;
            self.warm(&server)?;
            let row = ("mirror, peak memory", "MiB", Better::Lower, Target::Below(100.0));
            self.report.enter(row, name, server.peak_mib()?);
            drop(server);
            fs::remove_dir_all(&folder)?;
        }
        Ok(())
    }

    /// Starts ours with many blobs, and says what it all came to.
    pub(crate) fn end(mut self) -> Result<Report> {
        let folder = self.folder.join("many");
        let blobs = folder.join("images/blobs/sha256");
        fs::create_dir_all(&blobs)?;
        for number in 0..MANY {
            let octets = number.to_string();
            fs::write(blobs.join(images::store::Digest::of(&octets).hex()), octets)?;
        }
        for _ in 0..RESTARTS {
            let cable = Cable::plug(OURS)?;
            let begun = Instant::now();
            let mut server = self.start(OURS, cable, &folder)?;
            server.wait_for_port(PORT)?;
            let row = ("mirror, start with 10 000 blobs", "s", Better::Lower, Target::Below(1.0));
            self.report.enter(row, OURS, begun.elapsed().as_secs_f64());
        }
        Ok(self.report)
    }

    fn start(&self, name: &'static str, cable: Cable, folder: &Path) -> Result<Server> {
        let upstream = format!("http://{FAR_AWAY}");
        if name == OURS {
            return meshboot::start_mirrors(&self.programs.meshboot, &self.content, cable, folder, &upstream);
        }
        let config = config(&folder.join("data"), &format!("[::]:{PORT}"));
        let line = serve(folder, &format!("{config}proxy: {{ remoteurl: \"{upstream}\" }}\n"))?;
        Server::start(name, cable, folder, &line)
    }

    /// The registry and the way to it, on the mirror's machine.
    fn registry_far_away(&self, cable: &Cable) -> Result<[Beside; 2]> {
        let line = serve(&self.folder.join("registry"), &config(&self.folder.join("data"), REGISTRY))?;
        let myself = self.programs.myself.to_string_lossy().into_owned();
        let shaper = [myself, "--shape".to_owned(), FAR_AWAY.to_owned(), REGISTRY.to_owned()];
        let beside = [Beside::start(&cable.near, &line)?, Beside::start(&cable.near, &shaper)?];
        cable.wait_for("the registry far away", || {
            Ok(cable.near.run("curl", &["-sSf", &format!("http://{FAR_AWAY}/v2/")]).is_ok())
        })?;
        Ok(beside)
    }

    fn cold(&mut self, server: &Server) -> Result<()> {
        let direct = self.pull(&server.cable.near, &format!("http://{FAR_AWAY}"))?;
        let cold = self.pull(&server.cable.far, &here()?)?;
        say(&format!("  {}: {cold:?}, without it {direct:?}", server.name));
        let rows: [(&str, &'static str, Target, f64); 2] = [
            (
                "mirror, cold: first byte, after a direct pull's",
                "ms",
                Target::Below(5.0),
                (cold.first - direct.first) * 1e3,
            ),
            ("mirror, cold: end, times a direct pull's", "", Target::Below(1.1), cold.whole / direct.whole),
        ];
        for (what, unit, target, sample) in rows {
            self.report.enter((what, unit, Better::Lower, target), server.name, sample);
        }
        Ok(())
    }

    fn warm(&mut self, server: &Server) -> Result<()> {
        let url = self.url(&here()?);
        let found = http::digest(&server.cable, &url, &[])?;
        ensure!(found == self.layer.digest.hex(), "{}: another blob", server.name);
        let seconds = self.size.warm_seconds;
        let (network, address, path) = (server.cable.far.network()?, here()?, self.url(""));
        let address = address.trim_start_matches("http://").parse().context("the mirror's address")?;
        for (what, clients) in [("mirror, warm, one client", 1), ("mirror, warm, 50 clients", 50)] {
            let cpu = server.cpu()?;
            let fetched = drain::many(&network, address, &path, clients, Duration::from_secs(seconds))?;
            enter(&mut self.report, what, Target::Times(2.0), server, &fetched, cpu)?;
        }
        // As fast as one processor copies what comes.
        for (what, clients) in [("mirror, warm, one wrk", 1), ("mirror, warm, wrk with 50", 50)] {
            let cpu = server.cpu()?;
            let fetched = http::many(&server.cable, &url, clients, seconds)?;
            enter(&mut self.report, what, Target::Told, server, &fetched, cpu)?;
        }
        Ok(())
    }

    fn url(&self, server: &str) -> String {
        format!("{server}/v2/{REPOSITORY}/blobs/{}", self.layer.digest)
    }

    fn pull(&self, from: &Namespace, server: &str) -> Result<Pull> {
        let form = "%{http_code} %{size_download} %{time_starttransfer} %{time_total}";
        let said = from.run("curl", &["-sS", "-o", "/dev/null", "-w", form, &self.url(server)])?;
        let words: Vec<&str> = said.trim().split(' ').collect();
        let [code, octets, first, whole] = words.as_slice() else { anyhow::bail!("curl said: {said}") };
        ensure!(*code == "200" && *octets == self.layer.size.to_string(), "{server}: {said}");
        Ok(Pull { first: first.parse()?, whole: whole.parse()? })
    }
}

// === impl Beside ===

impl Beside {
    fn start(machine: &Namespace, line: &[String]) -> Result<Self> {
        let [program, arguments @ ..] = line else { anyhow::bail!("no program") };
        let mut command = machine.command(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn().with_context(|| format!("starting {program}"))?))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _gone = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// The mirror, as its clients know it.
fn here() -> Result<String> {
    let near: Ipv6Addr = prefix()?.near();
    Ok(format!("http://[{near}]:{PORT}"))
}

/// docker-registry's settings, without a log of what was served.
fn config(data: &Path, address: &str) -> String {
    format!(
        "version: 0.1\nlog: {{ level: error, accesslog: {{ disabled: true }} }}\n\
         storage: {{ filesystem: {{ rootdirectory: \"{}\" }} }}\nhttp: {{ addr: \"{address}\" }}\n",
        data.display()
    )
}

/// The line that starts it with these settings.
fn serve(folder: &Path, config: &str) -> Result<[String; 3]> {
    fs::create_dir_all(folder)?;
    let file = folder.join("config.yml");
    fs::write(&file, config)?;
    let program: PathBuf = unpacked("bookworm", "docker-registry")?.join("usr/bin/docker-registry");
    let text = |path: &Path| path.to_string_lossy().into_owned();
    Ok([text(&program), "serve".to_owned(), text(&file)])
}

/// Puts the image into a registry that ends again.
fn fill(folder: &Path, archive: &Path) -> Result<()> {
    let machine = Namespace::start("bench-fill")?;
    let line = serve(&folder.join("registry"), &config(&folder.join("data"), REGISTRY))?;
    let _registry = Beside::start(&machine, &line)?;
    let from = format!("oci-archive:{}", archive.display());
    let to = format!("docker://{REGISTRY}/{REPOSITORY}:v1");
    let copy = ["--insecure-policy", "copy", "--preserve-digests", "--dest-tls-verify=false", &from, &to];
    for _ in 0..100 {
        if machine.run("curl", &["-sSf", &format!("http://{REGISTRY}/v2/")]).is_ok() {
            return machine.run("skopeo", &copy).map(drop);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!("docker-registry does not answer")
}
