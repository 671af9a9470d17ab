//! FRR's files on a node: BGP unnumbered on every mesh port, the node's block and its anycast addresses.
//!
//! The neighbours are found by the router advertisements that meshboot sends on each port: zebra hears them and hands
//! the sender's link-local address to bgpd. Zebra would advertise too, and is kept from it by [`frr_nft`]. So whoever
//! advertises must do so every few seconds, and must not hear itself: zebra would take it for its own neighbour.
//!
//! What a node sends of its own accord must carry its address on `lo`. Routes do not say so (a zebra that is started
//! anew forgets it for some of them): all other addresses, those of the ports and the anycast ones, are to be added
//! with a preferred lifetime of 0, and the kernel does not choose them [RFC 6724 § 5, rule 3].
//!
//! Why BGP and not OSPFv3, and why without BFD, with figures: `tests/README.md`.
//!
//! [RFC 6724 § 5, rule 3]: https://www.rfc-editor.org/rfc/rfc6724#section-5

use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

use crate::template::fill;

const FRR_CONF: &str = include_str!("templates/frr/frr.conf");
const DAEMONS: &str = include_str!("templates/frr/daemons");
const SYSCTL: &str = include_str!("templates/frr/sysctl.conf");
const NFT: &str = include_str!("templates/frr/frr.nft");
const TRANSIT: &str = include_str!("templates/frr/transit.nft");

/// The first private AS number of four octets [RFC 6996 § 5].
///
/// [RFC 6996 § 5]: https://www.rfc-editor.org/rfc/rfc6996#section-5
pub const FIRST_PRIVATE_ASN: u32 = 4_200_000_000;

/// How many private AS numbers of four octets there are [RFC 6996 § 5].
///
/// [RFC 6996 § 5]: https://www.rfc-editor.org/rfc/rfc6996#section-5
pub const PRIVATE_ASNS: u32 = 94_967_295;

/// What routing on one node depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutingPlan {
    /// The node's name, as it shows in `show bgp summary` of its neighbours.
    pub hostname: String,
    /// The BGP identifier: any number that no other node has.
    pub router_id: u32,
    /// The node's own AS number, from the private range that starts at [`FIRST_PRIVATE_ASN`].
    pub asn: u32,
    /// The machine's block, announced as a whole.
    pub block: Ipv6Net,
    /// The node's address, on `lo`, inside the block and announced with it.
    pub vip: Ipv6Addr,
    /// The mesh ports by interface name; a neighbour may or may not be there.
    pub ports: Vec<String>,
    /// The prefix whose /128s are announced while they are on `lo`.
    pub anycast: Ipv6Net,
    /// Connected prefixes that are announced as well: the seed's uplink.
    pub redistribute: Vec<Ipv6Net>,
    /// Whether to announce a default route while the kernel has one from elsewhere: the seed does.
    pub default_route: bool,
}

/// `/etc/frr/frr.conf`: owner `frr:frr`, mode 0640.
///
/// The result holds for any plan whose names are interface names and host names; a plan is made from values that were
/// parsed, so nothing is escaped here.
#[must_use]
pub fn frr_conf(plan: &RoutingPlan) -> String {
    let redistribute: Vec<String> = plan.redistribute.iter().map(ToString::to_string).collect();
    let mut out = String::with_capacity(FRR_CONF.len() * 2);
    let mut lines = FRR_CONF.lines();
    while let Some(line) = lines.next() {
        match line.trim() {
            "{each ports}" => repeat(&mut out, plan, &body(&mut lines), &plan.ports),
            "{each redistribute}" => repeat(&mut out, plan, &body(&mut lines), &redistribute),
            "{if redistribute}" => keep_if(&mut out, plan, &body(&mut lines), !redistribute.is_empty()),
            "{if default_route}" => keep_if(&mut out, plan, &body(&mut lines), plan.default_route),
            _ => push(&mut out, plan, line),
        }
    }
    out
}

/// What to tell `vtysh`, a `-c` each, about a port that came while FRR runs. Twice is harmless.
#[must_use]
pub fn frr_port(asn: u32, port: &str) -> String {
    let mut out = "configure terminal\n".to_owned();
    let mut lines = FRR_CONF.lines();
    while let Some(line) = lines.next() {
        match line.trim() {
            "router bgp {asn}" => out.push_str(&format!("router bgp {asn}\n")),
            "address-family ipv6 unicast" => out.push_str("address-family ipv6 unicast\n"),
            "{each ports}" => {
                for line in body(&mut lines) {
                    out.push_str(line.replace("{item}", port).trim_start());
                    out.push('\n');
                }
            }
            _ => {}
        }
    }
    out
}

/// `/etc/frr/daemons`: owner `frr:frr`, mode 0640.
#[must_use]
pub const fn frr_daemons() -> &'static str {
    DAEMONS
}

/// `/etc/frr/vtysh.conf`: owner `frr:frrvty`, mode 0640.
#[must_use]
pub const fn frr_vtysh() -> &'static str {
    "service integrated-vtysh-config\n"
}

/// A file for `/etc/sysctl.d`, to be applied before the ports come up: `default` reaches only what is made later.
#[must_use]
pub const fn frr_sysctls() -> &'static str {
    SYSCTL
}

/// A ruleset for `nft -f`, to be loaded before FRR starts: it leaves the router advertisements to meshboot, and redirects to
/// nobody.
#[must_use]
pub const fn frr_nft() -> &'static str {
    NFT
}

/// A ruleset for `nft -f`: connections that only pass through the node, whose block this is, are not tracked. Those
/// to `services` are, wherever they come from: kube-proxy has to translate them.
#[must_use]
pub fn transit_nft(block: Ipv6Net, services: Ipv6Net) -> String {
    fill(TRANSIT, &[("block", &block.to_string()), ("services", &services.to_string())])
}

/// The lines of a template up to its `{end}`.
fn body<'t>(lines: &mut impl Iterator<Item = &'t str>) -> Vec<&'t str> {
    lines.take_while(|line| line.trim() != "{end}").collect()
}

fn repeat(out: &mut String, plan: &RoutingPlan, body: &[&str], items: &[String]) {
    for item in items {
        for line in body {
            push(out, plan, &line.replace("{item}", item));
        }
    }
}

fn keep_if(out: &mut String, plan: &RoutingPlan, body: &[&str], condition: bool) {
    if condition {
        for line in body {
            push(out, plan, line);
        }
    }
}

fn push(out: &mut String, plan: &RoutingPlan, line: &str) {
    let mut rest = line;
    while let Some((before, placeholder, after)) = next_placeholder(rest) {
        out.push_str(before);
        // Writing to a String cannot fail.
        let _infallible = placeholder.write(out, plan);
        rest = after;
    }
    out.push_str(rest);
    out.push('\n');
}

/// One `{name}` of the template.
#[derive(Debug, Clone, Copy)]
enum Placeholder {
    Hostname,
    RouterId,
    Asn,
    Block,
    Anycast,
}

impl Placeholder {
    const ALL: [(&'static str, Self); 5] = [
        ("{hostname}", Self::Hostname),
        ("{router_id}", Self::RouterId),
        ("{asn}", Self::Asn),
        ("{block}", Self::Block),
        ("{anycast}", Self::Anycast),
    ];

    fn write(self, out: &mut String, plan: &RoutingPlan) -> fmt::Result {
        match self {
            Self::Hostname => out.write_str(&plan.hostname),
            Self::RouterId => write!(out, "{}", Ipv4Addr::from(plan.router_id)),
            Self::Asn => write!(out, "{}", plan.asn),
            Self::Block => write!(out, "{}", plan.block),
            Self::Anycast => write!(out, "{}", plan.anycast),
        }
    }
}

fn next_placeholder(line: &str) -> Option<(&str, Placeholder, &str)> {
    Placeholder::ALL
        .into_iter()
        .filter_map(|(name, placeholder)| {
            line.split_once(name).map(|(before, after)| (before, placeholder, after))
        })
        .min_by_key(|(before, _, _)| before.len())
}

#[cfg(test)]
mod tests;
