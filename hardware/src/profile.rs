//! What a kind of machine brings along: ports, memory, and what its firmware must be told.

/// Mesh ports of a machine in a deployment of virtual machines.
pub const MESH_PORTS: u8 = 4;

/// A kind of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// Its name, as `nuc`.
    pub name: &'static str,
    /// What is meant.
    pub title: &'static str,
    /// The Ethernet ports that it may use for the mesh.
    pub mesh_ports: &'static str,
    /// Least memory of a seed, in MiB.
    pub seed_memory_mib: u32,
    /// Least memory of a node, in MiB.
    pub node_memory_mib: u32,
    /// Drivers of its Ethernet ports in the Linux kernel.
    pub drivers: &'static [&'static str],
    /// What to set in its firmware before its first boot, one setting a line.
    pub firmware: &'static [&'static str],
    /// What else its owner should know.
    pub notes: &'static [&'static str],
}

/// Every profile.
pub const PROFILES: &[Profile] = &[VM, NUC, GENERIC];

/// A virtual machine made by [`crate::plan`].
pub const VM: Profile = Profile {
    name: "vm",
    title: "libvirt/QEMU virtual machine (q35, OVMF)",
    mesh_ports: "4 virtio, one libvirt network per cable",
    seed_memory_mib: 3072,
    node_memory_mib: 2048,
    drivers: &["virtio_net"],
    firmware: &[],
    notes: &[
        "The boot entries in its NVRAM are PXE over IPv6 on each cabled port, then a reset: it tries for ever.",
        "QEMU 7.2 cannot emulate two processors soundly; with KVM any QEMU will do.",
    ],
};

/// An Intel or ASUS NUC.
pub const NUC: Profile = Profile {
    name: "nuc",
    title: "NUC (Intel or ASUS), 64-bit, UEFI",
    mesh_ports: "the port on the board, and any number of USB Ethernet adapters",
    seed_memory_mib: 4096,
    node_memory_mib: 4096,
    drivers: &["e1000e", "igc", "igb", "r8169", "r8152", "ax88179_178a"],
    firmware: &[
        "Boot > Legacy Boot: off",
        "Boot > Network Boot: UEFI PXE & iSCSI",
        "Boot > Boot Network Devices Last: on (a USB stick with a seed goes first)",
        "Boot > Unlimited Boot to Network Attempts: on (a node waits until its neighbour serves)",
        "Boot > Secure Boot: off (the boot file is not signed)",
        "Power > After Power Failure: Power On",
    ],
    notes: &[
        "Firmware boots from the port on the board; adapters on USB serve as mesh ports once the node runs.",
        "A link of two such ports needs no crossover cable and no switch.",
    ],
};

/// Any other machine.
pub const GENERIC: Profile = Profile {
    name: "generic",
    title: "any 64-bit PC or server with UEFI",
    mesh_ports: "every Ethernet port that Linux has a driver for, 60 at most",
    seed_memory_mib: 4096,
    node_memory_mib: 4096,
    drivers: &["e1000e", "igc", "igb", "ixgbe", "r8169", "tg3", "bnxt_en", "mlx5_core"],
    firmware: &[
        "UEFI boot only (no CSM), network stack on, IPv6 PXE or IPv6 HTTP boot on",
        "Network boot without a limit of attempts, where there is such a setting",
        "Secure Boot off (the boot file is not signed)",
    ],
    notes: &[],
};

/// The profile of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}
