//! FRR on the machine: its files, and what the kernel has to do for it.

use mesh::Block;

use crate::frr::{RoutingPlan, frr_conf, frr_daemons, frr_nft, frr_sysctls, frr_vtysh, transit_nft};
use crate::tree::{PUBLIC, Tree};
use crate::{NodePlan, RoleDetail};

const DROP_IN: &str = include_str!("templates/frr/frr-drop-in.conf");
/// Owner and group of FRR's files, as Debian's package has them.
const FRR: (&str, &str) = ("frr", "frr");
const FRR_VTY: (&str, &str) = ("frr", "frrvty");
const FRR_MODE: u32 = 0o640;

/// Writes FRR's files and has it started.
pub fn write(tree: &mut Tree, plan: &NodePlan, block: Block) {
    let routing = routing_plan(plan, block);
    tree.file_of(FRR, "/etc/frr/frr.conf", FRR_MODE, frr_conf(&routing));
    tree.file_of(FRR, "/etc/frr/daemons", FRR_MODE, frr_daemons());
    tree.file_of(FRR_VTY, "/etc/frr/vtysh.conf", FRR_MODE, frr_vtysh());
    tree.file("/etc/sysctl.d/90-meshboot-routing.conf", PUBLIC, frr_sysctls());
    tree.file("/etc/meshboot/frr.nft", PUBLIC, frr_nft());
    tree.file("/etc/meshboot/transit.nft", PUBLIC, transit_nft(block.net(), plan.site.plan.services));
    tree.drop_in("frr.service", DROP_IN);
    tree.wanted("/usr/lib/systemd/system/frr.service", "multi-user.target");
}

fn routing_plan(plan: &NodePlan, block: Block) -> RoutingPlan {
    let machine = &plan.machine;
    let uplink = match &plan.detail {
        RoleDetail::Seed { uplink, .. } => uplink.as_ref(),
        RoleDetail::Node { .. } => None,
    };
    let outer = uplink.iter().flat_map(|uplink| &uplink.addresses);
    RoutingPlan {
        hostname: machine.name.to_string(),
        router_id: machine.router_id.get(),
        asn: machine.router_id.asn(),
        block: block.net(),
        vip: block.vip(),
        ports: machine.ports.iter().map(|port| port.name.clone()).collect(),
        anycast: plan.site.plan.anycast,
        redistribute: outer
            .filter_map(|net| match net {
                ipnet::IpNet::V6(net) => Some(net.trunc()),
                ipnet::IpNet::V4(_) => None,
            })
            .collect(),
        default_route: uplink.is_some(),
    }
}
