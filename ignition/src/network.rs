//! Files for systemd-networkd: the machine's own addresses, known before any packet is.
//!
//! Ports are matched by Ethernet address, never by name, and configured whether or not a cable is in: what a port
//! is called and what hangs on it may change, its addresses do not. Nothing is learned from the mesh's router
//! advertisements: those are for machines that boot, and a node is the one that sends them.

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use mesh::{AddressPlan, Block, Port};

use crate::tree::{PUBLIC, Tree};
use crate::{BootLink, NodePlan, RoleDetail, Uplink};

const FOLDER: &str = "/etc/systemd/network";
const OTHER_PORTS: &str = include_str!("templates/network/other-ports.network");
const NETWORKD_CONF: &str = include_str!("templates/network/networkd.conf");

/// Writes the machine's addresses.
pub fn write(tree: &mut Tree, plan: &NodePlan, block: Block) {
    let mut file = |name: &str, contents: String| tree.file(format!("{FOLDER}/{name}"), PUBLIC, contents);
    let (uplink, boot) = match &plan.detail {
        RoleDetail::Seed { uplink, .. } => (uplink.as_ref(), None),
        RoleDetail::Node { boot, .. } => (None, *boot),
    };
    file("05-lo.network", loopback(block, &plan.site.plan));
    if let Some(uplink) = uplink {
        file("07-uplink.network", uplink_network(uplink));
    }
    for port in &plan.machine.ports {
        file(
            &format!("10-mesh-{}.network", port.index),
            port_network(port, block.link(port.index).near(), boot),
        );
    }
    file("20-other-ports.network", OTHER_PORTS.to_owned());
    tree.file("/etc/systemd/networkd.conf.d/10-meshboot.conf", PUBLIC, NETWORKD_CONF);
    tree.wanted("/usr/lib/systemd/system/systemd-networkd.service", "multi-user.target");
    tree.wanted("/usr/lib/systemd/system/systemd-networkd.socket", "sockets.target");
    // Cables come and go: there is no state of the network that a boot could wait for.
    tree.mask(["systemd-networkd-wait-online.service"]);
}

/// How networkd behaves whatever the network is.
#[must_use]
pub fn networkd_conf() -> &'static str {
    NETWORKD_CONF
}

/// The node's own address, and routes for what is within the mesh or nowhere. Anycast addresses come and go at run time,
/// with the services behind them; a restart of networkd keeps those that are there.
#[must_use]
pub fn loopback(block: Block, site: &AddressPlan) -> String {
    let (vip, services) = (block.vip(), site.services);
    let mut text = format!(
        "[Match]\nName=lo\n\n[Network]\nKeepConfiguration=static\nAddress={vip}/128\n\n\
         # What nobody here holds, or nobody announces for the moment, is unreachable. It must not follow a default route: back\n\
         # to where it came from, and at last out of the mesh, to where nobody knows it either.\n"
    );
    for net in [block.net(), site.machines, site.anycast] {
        let _infallible = write!(text, "[Route]\nDestination={net}\nType=unreachable\n");
    }
    let _infallible = write!(
        text,
        "\n# What the node itself sends to a service must have a route until kube-proxy has translated it: also where there\n\
         # is no way out of the mesh. What is not translated ends here.\n\
         [Route]\nDestination={services}\n"
    );
    text
}

/// A mesh port, which is the `near` end of its link.
#[must_use]
pub fn port_network(port: &Port, near: Ipv6Addr, boot: Option<BootLink>) -> String {
    let mut text = format!(
        "# Mesh port {}, `{}` when the machine last booted.\n[Match]\nMACAddress={}\nType=ether\nKind=!*\n\n\
         [Link]\nRequiredForOnline=no\n\n\
         [Network]\nDHCP=no\nIPv6AcceptRA=no\nLinkLocalAddressing=ipv6\nIPv6LinkLocalAddressGenerationMode=eui64\n\
         IPv6DuplicateAddressDetection=0\nLLDP=no\nConfigureWithoutCarrier=yes\nIgnoreCarrierLoss=yes\n\n\
         # The end that serves whoever is plugged in. Deprecated, as all addresses but the node's own are: what the\n\
         # node begins carries the address that the mesh can answer.\n\
         [Address]\nAddress={near}/126\nDuplicateAddressDetection=none\nPreferredLifetime=0\n",
        port.index, port.name, port.mac,
    );
    if let Some(link) = boot.filter(|link| link.mac == port.mac) {
        // Writing to a String cannot fail.
        let _infallible = write!(
            text,
            "\n# The far end of the neighbour's link: the machine boots through it.\n[Address]\nAddress={}/126\n\
             DuplicateAddressDetection=none\nPreferredLifetime=0\n",
            link.prefix.far(),
        );
    }
    text
}

fn uplink_network(uplink: &Uplink) -> String {
    let automatic = if uplink.automatic { "yes" } else { "no" };
    let mut text = format!(
        "# The way out of the mesh.\n[Match]\nMACAddress={}\nType=ether\nKind=!*\n\n[Link]\nRequiredForOnline=no\n\n\
         [Network]\nDHCP={automatic}\nIPv6AcceptRA={automatic}\nLinkLocalAddressing=ipv6\n\
         ConfigureWithoutCarrier=yes\nIgnoreCarrierLoss=yes\n",
        uplink.mac,
    );
    for address in &uplink.addresses {
        let _infallible = writeln!(text, "Address={address}");
    }
    for gateway in &uplink.gateways {
        let _infallible = writeln!(text, "Gateway={gateway}");
    }
    text
}
