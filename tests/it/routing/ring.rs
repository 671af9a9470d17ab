//! A ring of machines with FRR, and everything that can befall it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ignition::frr::RoutingPlan;
use tempfile::TempDir;
use tests::advertise::Advertiser;
use tests::frr;
use tests::netlink::Netlink;
use tests::netns::{Namespace, Network};
use tests::probe::{self, Echo, Prober};

use super::board::{Board, Writer};
use super::identity::{Identity, PORTS};
use super::protocol::Protocol;
use super::truth::{Place, World};

/// How often a node advertises itself on a port: neighbours are found no sooner.
pub(crate) const ADVERTISE: Duration = Duration::from_secs(3);

/// How a cable is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Both ends lose carrier: a pulled plug.
    BothEnds,
    /// The machine at the cable's first end loses carrier, the other hears nothing more: `virsh domif-setlink`.
    OneEnd,
    /// Both ends keep their carrier and hear nothing more: a dead switch between.
    Silent,
}

/// Machines in a ring, each cable a bridge, as libvirt makes them.
#[derive(Debug)]
pub(crate) struct Ring {
    pub(crate) world: World,
    pub(crate) board: Arc<Board>,
    protocol: Protocol,
    root: PathBuf,
    machines: BTreeMap<Place, Machine>,
    cables: Netlink,
    panel: Network,
    _holder: Namespace,
    cuts: BTreeMap<usize, Cut>,
    disks: BTreeMap<Place, Vec<(PathBuf, PathBuf)>>,
}

/// One machine that is on.
#[derive(Debug)]
struct Machine {
    _advertiser: Advertiser,
    _echo: Echo,
    netlink: Netlink,
    network: Network,
    namespace: Namespace,
    files: TempDir,
}

impl Ring {
    /// Makes the cables; the machines are yet to be switched on.
    pub(crate) fn new(protocol: Protocol, size: usize) -> Result<Self> {
        let holder = Namespace::start("panel")?;
        let panel = holder.network()?;
        let cables = Netlink::open(&panel, None)?;
        for cable in 0..size {
            let bridge = bridge(cable);
            // A cable has no spanning tree, no snooping, and no memory of who was where.
            panel.ip(&[
                "link",
                "add",
                &bridge,
                "type",
                "bridge",
                "ageing_time",
                "0",
                "mcast_snooping",
                "0",
            ])?;
            panel.ip(&["link", "set", &bridge, "addrgenmode", "none", "up"])?;
        }
        let world = World {
            machines: BTreeMap::new(),
            cut: BTreeSet::new(),
            anycast: BTreeMap::new(),
            outside: BTreeMap::new(),
            size,
            announces_vip: protocol.announces_vip(),
        };
        Ok(Self {
            world,
            board: Arc::default(),
            protocol,
            root: frr::root()?,
            machines: BTreeMap::new(),
            cables,
            panel,
            _holder: holder,
            cuts: BTreeMap::new(),
            disks: BTreeMap::new(),
        })
    }

    /// Whenever the machine of a place is on it has these folders: each where it is here, and where it is there.
    pub(crate) fn give_disk(&mut self, place: Place, folders: Vec<(PathBuf, PathBuf)>) -> Result<()> {
        for (_, there) in &folders {
            let there = self.root.join(there.strip_prefix("/")?);
            std::fs::create_dir_all(&there).with_context(|| format!("making {}", there.display()))?;
        }
        self.disks.insert(place, folders);
        Ok(())
    }

    /// Switches a machine on: ports, addresses, advertiser; FRR is started by [`Ring::start_frr`].
    pub(crate) fn power_on(&mut self, place: Place, identity: Identity) -> Result<()> {
        self.power_on_with(place, identity, &identity.plan())
    }

    /// The same, with a plan of its own for FRR.
    pub(crate) fn power_on_with(
        &mut self,
        place: Place,
        identity: Identity,
        plan: &RoutingPlan,
    ) -> Result<()> {
        let files = TempDir::new()?;
        let mut mounts =
            frr::install(&self.root, files.path(), &self.protocol.conf(plan), &self.protocol.daemons())?;
        mounts.extend(self.disks.get(&place).into_iter().flatten().cloned());
        let namespace = Namespace::start_in(&identity.name(), &self.root, &mounts)?;
        let network = namespace.network()?;
        network.enter(set_sysctls)??;
        frr::silence_zebra(&namespace)?;
        self.plug_in(place, identity, &namespace)?;
        let writer = Writer { board: Arc::clone(&self.board), place };
        let netlink = Netlink::open(&network, Some(Arc::new(writer)))?;
        netlink.add_address("lo", identity.vip(), 128, true)?;
        if self.protocol.originates_block() {
            // On a node networkd does.
            for net in identity.within() {
                network.ip(&["-6", "route", "add", "unreachable", &net.to_string()])?;
            }
        }
        for (port, name) in PORTS.iter().enumerate() {
            let near = identity.near(port);
            netlink.set_link(name, true)?;
            netlink.add_address(name, near.addr(), near.prefix_len(), false)?;
        }
        let advertiser = Advertiser::start(&network, identity.links(), ADVERTISE)?;
        let echo = Echo::start(&network, &identity.name())?;
        let machine = Machine { _advertiser: advertiser, _echo: echo, netlink, network, namespace, files };
        self.machines.insert(place, machine);
        self.world.machines.insert(place, identity);
        Ok(())
    }

    fn plug_in(&self, place: Place, identity: Identity, namespace: &Namespace) -> Result<()> {
        for (port, name) in PORTS.iter().enumerate() {
            let cable = self.cable(place, port);
            let end = end(cable, port);
            let mac = identity.mac(port).map(|byte| format!("{byte:02x}")).join(":");
            let pid = namespace.pid().to_string();
            self.panel.ip(&[
                "link", "add", &end, "type", "veth", "peer", "name", name, "address", &mac, "netns", &pid,
            ])?;
            let carrier = if self.carrier(cable, port) { "up" } else { "down" };
            self.panel.ip(&[
                "link",
                "set",
                &end,
                "master",
                &bridge(cable),
                "addrgenmode",
                "none",
                carrier,
            ])?;
        }
        Ok(())
    }

    /// Puts a machine with one port and nothing else at the other end of a place's cable.
    pub(crate) fn plug_blank(&self, place: Place, port: usize) -> Result<Namespace> {
        let blank = Namespace::start("blank")?;
        let cable = self.cable(place, port);
        let end = end(cable, 1 - port);
        let pid = blank.pid().to_string();
        self.panel.ip(&["link", "add", &end, "type", "veth", "peer", "name", "port", "netns", &pid])?;
        self.panel.ip(&["link", "set", &end, "master", &bridge(cable), "addrgenmode", "none", "up"])?;
        blank.network()?.ip(&["link", "set", "port", "up"])?;
        Ok(blank)
    }

    fn cable(&self, place: Place, port: usize) -> usize {
        if port == 0 { place } else { (place + self.world.size - 1) % self.world.size }
    }

    /// The place whose port is at that end of a cable.
    fn place(&self, cable: usize, port: usize) -> Place {
        (cable + port) % self.world.size
    }

    /// Whether what has been done to a cable leaves that end its carrier.
    fn carrier(&self, cable: usize, port: usize) -> bool {
        match self.cuts.get(&cable) {
            None | Some(Cut::Silent) => true,
            Some(Cut::OneEnd) => port != 0,
            Some(Cut::BothEnds) => false,
        }
    }

    /// Starts FRR on a machine.
    pub(crate) fn start_frr(&self, place: Place) -> Result<()> {
        frr::start(&self.machine(place)?.namespace)
    }

    /// Kills every daemon of FRR on a machine, and leaves the kernel as it is.
    pub(crate) fn crash_frr(&self, place: Place) -> Result<()> {
        let kill = "kill -9 $(cat /run/frr/*.pid)";
        self.machine(place)?.namespace.run("/bin/sh", &["-c", kill]).map(drop)
    }

    /// Switches a machine off without a word; its neighbours keep their carrier.
    pub(crate) fn power_off(&mut self, place: Place) -> Result<Instant> {
        let machine = self.machines.remove(&place).context("no machine there")?;
        let at = Instant::now();
        for port in 0..PORTS.len() {
            let end = end(self.cable(place, port), port);
            self.panel.ip(&["link", "delete", &end])?;
        }
        machine.namespace.power_off()?;
        self.board.forget(place);
        self.world.machines.remove(&place);
        for owners in self.world.anycast.values_mut() {
            owners.remove(&place);
        }
        Ok(at)
    }

    /// Cuts cable `cable`, which joins that place with the next.
    pub(crate) fn cut(&mut self, cable: usize, how: Cut) -> Result<Instant> {
        let at = Instant::now();
        self.cuts.insert(cable, how);
        self.world.cut.insert(cable);
        self.set_cable(cable, how)?;
        Ok(at)
    }

    /// Undoes what was done to a cable.
    pub(crate) fn heal(&mut self, cable: usize) -> Result<Instant> {
        let at = Instant::now();
        let how = self.cuts.remove(&cable).context("that cable is whole")?;
        self.world.cut.remove(&cable);
        self.set_cable(cable, how)?;
        Ok(at)
    }

    fn set_cable(&self, cable: usize, how: Cut) -> Result<()> {
        if how == Cut::Silent {
            return self.cables.set_link(&bridge(cable), !self.cuts.contains_key(&cable));
        }
        for port in 0..PORTS.len() {
            // An end is there as long as the machine is.
            if self.machines.contains_key(&self.place(cable, port)) {
                self.cables.set_link(&end(cable, port), self.carrier(cable, port))?;
            }
        }
        Ok(())
    }

    /// Puts an anycast address on a machine.
    pub(crate) fn add_anycast(&mut self, place: Place, address: Ipv6Addr) -> Result<Instant> {
        let at = Instant::now();
        self.machine(place)?.netlink.add_address("lo", address, 128, false)?;
        self.world.anycast.entry(address).or_default().insert(place);
        Ok(at)
    }

    /// Takes an anycast address off a machine.
    pub(crate) fn remove_anycast(&mut self, place: Place, address: Ipv6Addr) -> Result<Instant> {
        let at = Instant::now();
        self.machine(place)?.netlink.remove_address("lo", address)?;
        self.world.anycast.entry(address).or_default().remove(&place);
        Ok(at)
    }

    /// Starts a flow of probes from a machine.
    pub(crate) fn probe(&self, from: Place, to: Ipv6Addr, interval: Duration) -> Result<Prober> {
        Prober::start(&self.machine(from)?.network, to, interval)
    }

    /// Asks every address from every machine; says what is not as it must be.
    pub(crate) fn ask_all(&self) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for (place, machine) in &self.machines {
            let own = self.world.machines[place].vip();
            for (address, owners) in self.world.reachable(*place) {
                let limit = Duration::from_millis(if owners.is_empty() { 30 } else { 1000 });
                let answer = probe::ask(&machine.network, address, limit)?;
                let right = match &answer {
                    None => owners.is_empty(),
                    Some(answer) => owners.iter().any(|owner| {
                        let owner = self.world.machines[owner];
                        answer.by == owner.name() && answer.from == owner.vip() && answer.saw == own
                    }),
                };
                if !right {
                    wrong.push(format!("place {place} asked {address} of {owners:?}: {answer:?}"));
                }
            }
        }
        Ok(wrong)
    }

    /// What an operator would look at when something is wrong.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for (place, machine) in &self.machines {
            let commands: &[&str] = match self.protocol {
                Protocol::Bgp | Protocol::BgpBfd => {
                    &["show bgp summary", "show bgp ipv6", "show bfd peers", "show ipv6 route"]
                }
                Protocol::Ospf6 | Protocol::Ospf6External => {
                    &["show ipv6 ospf6 neighbor", "show bfd peers", "show ipv6 route"]
                }
            };
            for command in commands {
                let answer =
                    frr::vtysh(&machine.namespace, command).unwrap_or_else(|error| format!("{error:#}"));
                let _infallible = writeln!(text, "--- place {place}: {command}\n{answer}");
            }
            let log = std::fs::read_to_string(machine.files.path().join("run/frr.log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            let _infallible = writeln!(text, "--- place {place}: log");
            for line in tail.into_iter().rev() {
                let _infallible = writeln!(text, "{line}");
            }
        }
        text
    }

    /// A machine's network, for what only one test does.
    pub(crate) fn network(&self, place: Place) -> Result<&Network> {
        Ok(&self.machine(place)?.network)
    }

    /// The namespaces of a machine, for what only one test does.
    pub(crate) fn namespace(&self, place: Place) -> Result<&Namespace> {
        Ok(&self.machine(place)?.namespace)
    }

    fn machine(&self, place: Place) -> Result<&Machine> {
        match self.machines.get(&place) {
            Some(machine) => Ok(machine),
            None => bail!("no machine at place {place}"),
        }
    }
}

fn bridge(cable: usize) -> String {
    format!("cable{cable}")
}

fn end(cable: usize, port: usize) -> String {
    format!("cable{cable}-{port}")
}

/// Applies the settings that a node has in `/etc/sysctl.d`, to the namespace that the thread is in.
fn set_sysctls() -> Result<()> {
    for line in ignition::frr::frr_sysctls().lines() {
        let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else { continue };
        let path = format!("/proc/sys/{}", key.trim().replace('.', "/"));
        std::fs::write(&path, value.trim()).with_context(|| format!("writing {path}"))?;
    }
    Ok(())
}
