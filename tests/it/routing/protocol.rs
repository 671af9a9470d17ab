//! The two protocols that were compared, as configurations of the same node.

use std::fmt;
use std::net::Ipv4Addr;

use ignition::frr::{RoutingPlan, frr_conf, frr_daemons};

/// What FRR runs between the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// BGP over link-local addresses, as meshboot renders it.
    Bgp,
    /// The same, with bgpd as a client of BFD.
    BgpBfd,
    /// OSPFv3, as kubermesh had it, with today's timers.
    Ospf6,
    /// The same, but the anycast addresses are external routes.
    Ospf6External,
}

impl Protocol {
    pub(crate) fn conf(self, plan: &RoutingPlan) -> String {
        match self {
            Self::Bgp => frr_conf(plan),
            Self::BgpBfd => with_bfd(&frr_conf(plan)),
            Self::Ospf6 => ospf6_conf(plan),
            Self::Ospf6External => external(&ospf6_conf(plan)),
        }
    }

    pub(crate) fn daemons(self) -> String {
        match self {
            Self::Bgp => frr_daemons().to_owned(),
            Self::BgpBfd => format!("{}bfdd=yes\n", frr_daemons()),
            Self::Ospf6 | Self::Ospf6External => {
                format!("{}bfdd=yes\n", frr_daemons().replace("bgpd", "ospf6d"))
            }
        }
    }

    /// BGP is told the block; OSPF takes it from a static route.
    pub(crate) fn originates_block(self) -> bool {
        matches!(self, Self::Bgp | Self::BgpBfd)
    }

    /// OSPF announces what is on `lo`, which holds the node's own address too.
    pub(crate) fn announces_vip(self) -> bool {
        matches!(self, Self::Ospf6 | Self::Ospf6External)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bgp => "BGP",
            Self::BgpBfd => "BGP+BFD",
            Self::Ospf6 => "ospf6d",
            Self::Ospf6External => "ospf6d, external",
        })
    }
}

fn ospf6_conf(plan: &RoutingPlan) -> String {
    let template = include_str!("ospf6.conf");
    let (head, rest) = template.split_once("{each ports}\n").expect("the template has ports");
    let (each, tail) = rest.split_once("{end}\n").expect("the ports end");
    let ports: String = plan.ports.iter().map(|port| each.replace("{item}", port)).collect();
    format!("{head}{ports}{tail}")
        .replace("{hostname}", &plan.hostname)
        .replace("{block}", &plan.block.to_string())
        .replace("{router_id}", &Ipv4Addr::from(plan.router_id).to_string())
}

fn with_bfd(conf: &str) -> String {
    let mut out = String::new();
    for line in conf.lines() {
        if line == "end" {
            out.push_str("bfd\n profile mesh\n  detect-multiplier 3\n  receive-interval 300\n  transmit-interval 300\n");
            out.push_str(" exit\nexit\n");
        }
        out.push_str(line);
        out.push('\n');
        if let Some(neighbor) = line.strip_suffix(" interface remote-as external") {
            out.push_str(&format!("{neighbor} bfd\n{neighbor} bfd profile mesh\n"));
        }
    }
    out
}

/// `lo` is no part of the area; what is on it is redistributed.
fn external(conf: &str) -> String {
    conf.replace("interface lo\n ipv6 ospf6 area 0.0.0.0\n ipv6 ospf6 passive\nexit\n", "")
        .replace(
            "route-map static permit 10\n",
            "route-map connected permit 10\n match interface lo\nexit\nroute-map static permit 10\n",
        )
        .replace(
            " redistribute static route-map static\n",
            " redistribute static route-map static\n redistribute connected route-map connected\n",
        )
}
