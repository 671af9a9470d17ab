//! What a deployment comes to in libvirt.

use std::net::{Ipv4Addr, Ipv6Addr};

use hardware::firmware::Firmware;
use hardware::plan::{MachineSpec, Uplink};
use hardware::{Accel, Spec, host};
use mesh::AddressPlan;

use super::{Deployment, Directory};
use crate::settings::LibvirtSettings;

// === impl Deployment ===

impl Deployment {
    /// What the driver has to know to make any of its objects.
    #[must_use]
    pub fn spec(&self, directory: &Directory, settings: &LibvirtSettings, firmware: Firmware) -> Spec {
        let accel = self.accel.unwrap_or(Accel::Tcg);
        let scarce = accel == Accel::Tcg && host::shares_processors();
        let machines: Vec<MachineSpec> = self.machines.iter().map(|machine| machine.spec(scarce)).collect();
        Spec {
            owner: directory.owner(self.id),
            machines,
            cables: self.cables.clone(),
            accel,
            firmware,
            run_as: host::run_as(),
            uplink: uplink(settings, &self.addresses),
        }
    }
}

fn uplink(settings: &LibvirtSettings, addresses: &AddressPlan) -> Uplink {
    let (seed_v4, seed_v6) = seed_addresses(settings);
    Uplink {
        host_v4: settings.host_v4,
        host_v6: settings.host_v6,
        seed_v4,
        seed_v6,
        routes: vec![addresses.anycast, addresses.machines],
    }
}

/// The seed's addresses on the network to this computer: those after this computer's.
#[must_use]
pub fn seed_addresses(settings: &LibvirtSettings) -> (Ipv4Addr, Ipv6Addr) {
    let v4 = Ipv4Addr::from_bits(settings.host_v4.addr().to_bits() + 1);
    (v4, Ipv6Addr::from_bits(settings.host_v6.addr().to_bits() + 1))
}
