//! `<domain>`.

use std::borrow::Cow;

use serde::Serialize;

use super::{Metadata, document};
use crate::accel::Accel;
use crate::owned::Owner;
use crate::plan::{DomainPlan, PortPlan};

/// Translated code that one machine's QEMU keeps, in MiB: its own default grows to a GiB, which a computer that
/// plays five machines does not have.
const TRANSLATION_CACHE_MIB: u32 = 512;

#[derive(Serialize)]
#[serde(rename = "domain")]
struct Domain<'a> {
    #[serde(rename = "@type")]
    kind: &'static str,
    name: &'a str,
    uuid: String,
    title: &'a str,
    metadata: Metadata<'a>,
    memory: Mib,
    vcpu: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    cputune: Option<CpuTune>,
    sysinfo: Vec<Sysinfo<'a>>,
    os: Os<'a>,
    features: Features,
    cpu: Cpu,
    clock: Clock,
    on_poweroff: &'static str,
    on_reboot: &'static str,
    on_crash: &'static str,
    devices: Devices<'a>,
    seclabel: Seclabel,
}

#[derive(Serialize)]
struct CpuTune {
    shares: u32,
}

#[derive(Serialize)]
struct Mib {
    #[serde(rename = "@unit")]
    unit: &'static str,
    #[serde(rename = "$text")]
    amount: u32,
}

#[derive(Serialize)]
struct Sysinfo<'a> {
    #[serde(rename = "@type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<System<'a>>,
    #[serde(rename = "oemStrings", skip_serializing_if = "Option::is_none")]
    oem_strings: Option<OemStrings>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entry: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct OemStrings {
    entry: &'static str,
}

#[derive(Serialize)]
struct System<'a> {
    entry: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(rename = "@name")]
    name: &'static str,
    #[serde(rename = "$text")]
    value: Cow<'a, str>,
}

#[derive(Serialize)]
struct Os<'a> {
    #[serde(rename = "type")]
    kind: OsType,
    loader: Loader,
    nvram: Cow<'a, str>,
    /// A domain without any boot order would be given its disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    boot: Option<Boot>,
    smbios: Mode,
}

#[derive(Serialize)]
struct OsType {
    #[serde(rename = "@arch")]
    arch: &'static str,
    #[serde(rename = "@machine")]
    machine: &'static str,
    #[serde(rename = "$text")]
    kind: &'static str,
}

#[derive(Serialize)]
struct Loader {
    #[serde(rename = "@readonly")]
    readonly: &'static str,
    #[serde(rename = "@type")]
    kind: &'static str,
    #[serde(rename = "$text")]
    path: String,
}

#[derive(Serialize)]
struct Boot {
    #[serde(rename = "@dev")]
    dev: &'static str,
}

#[derive(Serialize)]
struct Mode {
    #[serde(rename = "@mode")]
    mode: &'static str,
}

#[derive(Serialize)]
struct Features {
    acpi: (),
    apic: (),
    #[serde(skip_serializing_if = "Option::is_none")]
    tcg: Option<Tcg>,
}

#[derive(Serialize)]
struct Tcg {
    #[serde(rename = "tb-cache")]
    cache: Mib,
}

#[derive(Serialize)]
struct Cpu {
    #[serde(rename = "@mode")]
    mode: &'static str,
    #[serde(rename = "@check")]
    check: &'static str,
    #[serde(rename = "@migratable")]
    migratable: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    feature: Option<Feature>,
}

#[derive(Serialize)]
struct Feature {
    #[serde(rename = "@policy")]
    policy: &'static str,
    #[serde(rename = "@name")]
    name: &'static str,
}

#[derive(Serialize)]
struct Clock {
    #[serde(rename = "@offset")]
    offset: &'static str,
}

#[derive(Serialize)]
struct Devices<'a> {
    disk: Disk<'a>,
    controller: Controller,
    interface: Vec<Interface<'a>>,
    serial: Serial<'a>,
    memballoon: Model,
    rng: Rng,
}

#[derive(Serialize)]
struct Disk<'a> {
    #[serde(rename = "@type")]
    kind: &'static str,
    #[serde(rename = "@device")]
    device: &'static str,
    driver: Driver,
    source: File<'a>,
    target: Target,
    serial: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot: Option<Order>,
}

#[derive(Serialize)]
struct Driver {
    #[serde(rename = "@name")]
    name: &'static str,
    #[serde(rename = "@type")]
    kind: &'static str,
    /// A machine's power cut loses nothing: the pages are this computer's. Only its own power cut would.
    #[serde(rename = "@cache")]
    cache: &'static str,
    #[serde(rename = "@discard")]
    discard: &'static str,
}

#[derive(Serialize)]
struct File<'a> {
    #[serde(rename = "@file")]
    file: Cow<'a, str>,
}

#[derive(Serialize)]
struct Target {
    #[serde(rename = "@dev")]
    dev: &'static str,
    #[serde(rename = "@bus")]
    bus: &'static str,
}

#[derive(Serialize)]
struct Order {
    #[serde(rename = "@order")]
    order: u8,
}

#[derive(Serialize)]
struct Controller {
    #[serde(rename = "@type")]
    kind: &'static str,
    #[serde(rename = "@model")]
    model: &'static str,
}

#[derive(Serialize)]
#[serde(rename = "interface")]
struct Interface<'a> {
    #[serde(rename = "@type")]
    kind: &'static str,
    mac: Address,
    source: NetworkName<'a>,
    target: Tap<'a>,
    model: ModelType,
    rom: Rom,
    link: Link,
    address: Pci,
}

#[derive(Serialize)]
struct Address {
    #[serde(rename = "@address")]
    address: String,
}

#[derive(Serialize)]
struct NetworkName<'a> {
    #[serde(rename = "@network")]
    network: &'a str,
}

#[derive(Serialize)]
struct Tap<'a> {
    #[serde(rename = "@dev")]
    dev: &'a str,
}

#[derive(Serialize)]
struct ModelType {
    #[serde(rename = "@type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct Rom {
    /// QEMU's option ROM is an iPXE that cannot boot over IPv6; the firmware's own driver can.
    #[serde(rename = "@enabled")]
    enabled: &'static str,
}

#[derive(Serialize)]
struct Link {
    #[serde(rename = "@state")]
    state: &'static str,
}

#[derive(Serialize)]
struct Pci {
    #[serde(rename = "@type")]
    kind: &'static str,
    #[serde(rename = "@domain")]
    domain: &'static str,
    #[serde(rename = "@bus")]
    bus: &'static str,
    #[serde(rename = "@slot")]
    slot: String,
    #[serde(rename = "@function")]
    function: &'static str,
}

#[derive(Serialize)]
struct Serial<'a> {
    #[serde(rename = "@type")]
    kind: &'static str,
    log: Log<'a>,
}

#[derive(Serialize)]
struct Log<'a> {
    #[serde(rename = "@file")]
    file: Cow<'a, str>,
    #[serde(rename = "@append")]
    append: &'static str,
}

#[derive(Serialize)]
struct Model {
    #[serde(rename = "@model")]
    model: &'static str,
}

#[derive(Serialize)]
struct Rng {
    #[serde(rename = "@model")]
    model: &'static str,
    backend: Backend,
}

#[derive(Serialize)]
struct Backend {
    #[serde(rename = "@model")]
    model: &'static str,
    #[serde(rename = "$text")]
    source: &'static str,
}

#[derive(Serialize)]
struct Seclabel {
    #[serde(rename = "@type")]
    kind: &'static str,
    #[serde(rename = "@model")]
    model: &'static str,
    #[serde(rename = "@relabel")]
    relabel: &'static str,
    label: String,
}

/// A machine's description.
///
/// QEMU runs as the deployment's owner, by a static label: it reads the owner's files in the owner's private
/// directory, libvirt changes no file's owner, and nobody else is let in.
#[must_use]
pub fn domain(plan: &DomainPlan, owner: &Owner) -> String {
    let emulated = plan.accel == Accel::Tcg;
    let (uid, gid) = plan.run_as;
    document(&Domain {
        kind: if emulated { "qemu" } else { "kvm" },
        name: &plan.name,
        uuid: plan.uuid.to_string(),
        title: &plan.title,
        metadata: Metadata::new(owner),
        memory: Mib { unit: "MiB", amount: plan.size.memory_mib },
        vcpu: plan.size.cpus,
        cputune: plan.cpu_shares.map(|shares| CpuTune { shares }),
        sysinfo: sysinfo(plan, emulated),
        os: Os {
            kind: OsType { arch: "x86_64", machine: "q35", kind: "hvm" },
            loader: Loader {
                readonly: "yes",
                kind: "pflash",
                path: plan.firmware.to_string_lossy().into_owned(),
            },
            nvram: plan.nvram.to_string_lossy(),
            // It has none, so the firmware is told no order and keeps the one in its variables.
            boot: (!plan.boots_from_disk).then_some(Boot { dev: "cdrom" }),
            smbios: Mode { mode: "sysinfo" },
        },
        features: Features {
            acpi: (),
            apic: (),
            tcg: emulated.then_some(Tcg { cache: Mib { unit: "MiB", amount: TRANSLATION_CACHE_MIB } }),
        },
        cpu: Cpu {
            mode: if emulated { "maximum" } else { "host-passthrough" },
            check: "none",
            migratable: "off",
            // Five levels of page tables make each miss of the emulated TLB dearer, and serve no machine this small.
            feature: emulated.then_some(Feature { policy: "disable", name: "la57" }),
        },
        clock: Clock { offset: "utc" },
        on_poweroff: "destroy",
        on_reboot: "restart",
        on_crash: "restart",
        devices: devices(plan),
        seclabel: Seclabel { kind: "static", model: "dac", relabel: "no", label: format!("+{uid}:+{gid}") },
    })
}

/// Words for the kernel's command line that systemd-stub takes from SMBIOS (type 11), so that the image stays the one
/// that hardware boots. An emulated processor's time stamp counters are one clock, but Linux cannot know that: it would
/// ask the emulated HPET for the time, which leaves the translated code each time and is by far the dearest
/// thing that a program written in Go then does. And there is nothing to leak by speculation. The kubelet reads every
/// pod's group of every controller anew every two seconds, those that nothing here has a use for as well.
const EMULATED: &str = "io.systemd.stub.kernel-cmdline-extra=tsc=reliable mitigations=off highres=off preempt=none \
                        cgroup_disable=rdma,misc,dmem";

fn sysinfo(plan: &DomainPlan, emulated: bool) -> Vec<Sysinfo<'_>> {
    let entry = |name: &'static str, value: String| Entry { name, value: value.into() };
    let system = vec![
        entry("manufacturer", "meshboot".to_owned()),
        entry("product", "virtual machine".to_owned()),
        entry("serial", plan.machine_name.clone()),
        entry("uuid", plan.uuid.to_string()),
    ];
    // Nobody answers over IPv4: a minute less for each port, should the boot entries ever be lost.
    let firmware = vec![entry("opt/org.tianocore/IPv4PXESupport", "no".to_owned())];
    vec![
        Sysinfo {
            kind: "smbios",
            system: Some(System { entry: system }),
            oem_strings: emulated.then_some(OemStrings { entry: EMULATED }),
            entry: Vec::new(),
        },
        Sysinfo { kind: "fwcfg", system: None, oem_strings: None, entry: firmware },
    ]
}

fn devices(plan: &DomainPlan) -> Devices<'_> {
    Devices {
        disk: Disk {
            kind: "file",
            device: "disk",
            driver: Driver { name: "qemu", kind: "raw", cache: "unsafe", discard: "unmap" },
            source: File { file: plan.disk.to_string_lossy() },
            target: Target { dev: "vda", bus: "virtio" },
            serial: "meshboot",
            boot: plan.boots_from_disk.then_some(Order { order: 1 }),
        },
        controller: Controller { kind: "usb", model: "none" },
        interface: plan.ports.iter().map(interface).collect(),
        serial: Serial { kind: "pty", log: Log { file: plan.console.to_string_lossy(), append: "on" } },
        memballoon: Model { model: "none" },
        rng: Rng { model: "virtio", backend: Backend { model: "random", source: "/dev/urandom" } },
    }
}

/// A port's description alone, as it is changed in a running machine.
#[must_use]
pub fn port(plan: &PortPlan) -> String {
    document(&interface(plan))
}

fn interface(port: &PortPlan) -> Interface<'_> {
    Interface {
        kind: "network",
        mac: Address { address: port.mac.to_string() },
        source: NetworkName { network: &port.network },
        target: Tap { dev: &port.tap },
        model: ModelType { kind: "virtio" },
        rom: Rom { enabled: "no" },
        link: Link { state: if port.plugged { "up" } else { "down" } },
        address: Pci {
            kind: "pci",
            domain: "0x0000",
            bus: "0x00",
            slot: format!("{:#04x}", port.slot),
            function: "0x0",
        },
    }
}
