//! `<network>`.

use ipnet::IpNet;
use serde::Serialize;

use super::{Metadata, document};
use crate::owned::Owner;
use crate::plan::NetworkPlan;

#[derive(Serialize)]
#[serde(rename = "network")]
struct Network<'a> {
    /// Guests may speak IPv6 to each other although this computer has no address on the network.
    #[serde(rename = "@ipv6")]
    ipv6: &'static str,
    name: &'a str,
    title: &'a str,
    metadata: Metadata<'a>,
    bridge: Bridge<'a>,
    dns: Dns,
    ip: Vec<Ip>,
    route: Vec<Route>,
}

#[derive(Serialize)]
struct Bridge<'a> {
    #[serde(rename = "@name")]
    name: &'a str,
    #[serde(rename = "@stp")]
    stp: &'static str,
    #[serde(rename = "@delay")]
    delay: u8,
}

#[derive(Serialize)]
struct Dns {
    #[serde(rename = "@enable")]
    enable: &'static str,
}

#[derive(Serialize)]
struct Ip {
    #[serde(rename = "@family")]
    family: &'static str,
    #[serde(rename = "@address")]
    address: String,
    #[serde(rename = "@prefix")]
    prefix: u8,
}

#[derive(Serialize)]
struct Route {
    #[serde(rename = "@family")]
    family: &'static str,
    #[serde(rename = "@address")]
    address: String,
    #[serde(rename = "@prefix")]
    prefix: u8,
    #[serde(rename = "@gateway")]
    gateway: String,
}

/// A network's description. A cable is a bridge without spanning tree, delay or any address: libvirt turns
/// IPv6 off on such a bridge, so this computer says nothing on it. No network starts a DNS or DHCP server.
#[must_use]
pub fn network(plan: &NetworkPlan, owner: &Owner) -> String {
    let ip = plan.addresses.iter().map(|net| Ip {
        family: match net {
            IpNet::V4(_) => "ipv4",
            IpNet::V6(_) => "ipv6",
        },
        address: net.addr().to_string(),
        prefix: net.prefix_len(),
    });
    let route = plan.routes.iter().map(|(net, gateway)| Route {
        family: "ipv6",
        address: net.network().to_string(),
        prefix: net.prefix_len(),
        gateway: gateway.to_string(),
    });
    document(&Network {
        ipv6: "yes",
        name: &plan.name,
        title: &plan.title,
        metadata: Metadata::new(owner),
        bridge: Bridge { name: &plan.bridge, stp: "off", delay: 0 },
        dns: Dns { enable: "no" },
        ip: ip.collect(),
        route: route.collect(),
    })
}
