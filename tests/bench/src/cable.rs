//! A cable with a server at its near end and clients at its far end: two machines of namespaces and a veth pair.

use std::fs;
use std::net::Ipv6Addr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mesh::{Block, LinkPrefix, Mac, PortIndex};
use tests::netns::Namespace;

/// The near port's Ethernet address, the same on every cable.
pub(crate) const NEAR_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// The far port's.
pub(crate) const FAR_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// The near port's name.
pub(crate) const NEAR_PORT: &str = "near0";
/// The far port's.
pub(crate) const FAR_PORT: &str = "far0";

/// What Debian's kernel, and so every node, uses. BBR, which a host may use, takes a cable without delay for a slow one, or
/// not, by chance.
pub(crate) const CONGESTION_CONTROL: &str = "cubic";

/// The block of the machine at the near end.
const BLOCK: &str = "2001:db8::/119";
/// Where rivals find room for many clients; they are told this prefix, and no other.
pub(crate) const POOL: &str = "2001:db8:1::/64";
const POOL_NEAR: &str = "2001:db8:1::1/64";
const PATIENCE: Duration = Duration::from_secs(120);

/// Two machines and what joins them.
#[derive(Debug)]
pub(crate) struct Cable {
    pub(crate) near: Namespace,
    pub(crate) far: Namespace,
}

// === impl Cable ===

impl Cable {
    /// Two machines with a cable, both ends up. The far end has no address of the link yet.
    pub(crate) fn plug(name: &str) -> Result<Self> {
        let near = Namespace::start(&format!("bench-{name}-near"))?;
        let far = Namespace::start(&format!("bench-{name}-far"))?;
        let (near_mac, far_mac) = (NEAR_MAC.to_string(), FAR_MAC.to_string());
        let far_pid = far.pid().to_string();
        let ends = ["link", "add", NEAR_PORT, "address", &near_mac, "type", "veth", "peer", "name", FAR_PORT];
        near.network()?.ip(&[&ends[..], &["address", &far_mac, "netns", &far_pid]].concat())?;
        let cable = Self { near, far };
        // Nobody else can have their addresses, and nobody shall wait until that is proved.
        for (machine, port) in [(&cable.near, NEAR_PORT), (&cable.far, FAR_PORT)] {
            for (name, value) in [
                (format!("ipv6/conf/{port}/accept_dad"), "0"),
                (format!("ipv6/conf/{port}/keep_addr_on_down"), "1"),
                ("ipv4/tcp_congestion_control".to_owned(), CONGESTION_CONTROL),
            ] {
                let setting = format!("/proc/sys/net/{name}");
                machine.network()?.enter(move || fs::write(setting, value))?.with_context(|| {
                    format!(
                        "cannot set {name} to {value} in a namespace; for TCP's, say on this computer `sysctl \
                         net.ipv4.tcp_allowed_congestion_control='reno {CONGESTION_CONTROL}'`"
                    )
                })?;
            }
            machine.run("ip", &["link", "set", port, "up"])?;
        }
        let prefix = prefix()?;
        let address = |address: Ipv6Addr| format!("{address}/{}", prefix.net().prefix_len());
        let add = |machine: &Namespace, port: &str, address: &str| {
            machine.run("ip", &["addr", "replace", address, "dev", port, "nodad"]).map(drop)
        };
        add(&cable.near, NEAR_PORT, &address(prefix.near()))?;
        add(&cable.near, NEAR_PORT, POOL_NEAR)?;
        cable.wait_for("the far end's link-local address", || {
            let usable = ["-6", "-o", "addr", "show", "dev", FAR_PORT, "scope", "link", "-tentative"];
            Ok(!cable.far.run("ip", &usable)?.is_empty())
        })?;
        Ok(cable)
    }

    /// Gives the far end the address that the link has for it, or takes it away: perfdhcp would ask from there, and a
    /// client of DHCPv6 is one that has none.
    pub(crate) fn address_far(&self, given: bool) -> Result<()> {
        let prefix = prefix()?;
        let address = format!("{}/{}", prefix.far(), prefix.net().prefix_len());
        let line: &[&str] = match given {
            true => &["addr", "replace", &address, "dev", FAR_PORT, "nodad"],
            false => &["addr", "flush", "to", &address, "dev", FAR_PORT],
        };
        self.far.run("ip", line).map(drop)
    }

    /// Waits until something is so.
    pub(crate) fn wait_for(&self, what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        while !so()? {
            ensure!(
                begun.elapsed() < PATIENCE,
                "{what} on {} did not come within {PATIENCE:?}",
                self.near.name()
            );
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// The addresses of the two ends.
pub(crate) fn prefix() -> Result<LinkPrefix> {
    let block = Block::new(BLOCK.parse()?).context("no block")?;
    Ok(block.link(PortIndex::try_from(0)?))
}
