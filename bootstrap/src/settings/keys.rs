//! Every setting there is: its name, what it means, and its default.

use std::fmt::Write as _;

use toml::Value;

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Section and name, as `libvirt.memory`.
    pub name: &'static str,
    /// What it means, one line.
    pub meaning: &'static str,
    /// Its default as TOML; none if it has none.
    pub default: Option<&'static str>,
    /// An example as TOML, where there is no default.
    pub example: &'static str,
}

const fn with_default(name: &'static str, meaning: &'static str, default: &'static str) -> Key {
    Key { name, meaning, default: Some(default), example: "" }
}

const fn without(name: &'static str, meaning: &'static str, example: &'static str) -> Key {
    Key { name, meaning, default: None, example }
}

/// Every setting, section by section.
pub const KEYS: &[Key] = &[
    without(
        "site.id",
        "name of the site, a UUID: the state on a machine's disk belongs to one site",
        "\"5eed0000-0000-4000-8000-000000000001\"",
    ),
    with_default("site.nameservers", "name servers for machines and pods", "[]"),
    with_default("site.ssh-keys", "who may log in as root, besides the key that deploy makes", "[]"),
    with_default("addresses.anycast", "the /64 of the anycast addresses", "\"fd65:7b9c:569:680::/64\""),
    with_default("addresses.machines", "what machines' /119 blocks are cut from", "\"2001:db8::/71\""),
    without(
        "addresses.services",
        "Kubernetes' service addresses; by default a /112 beside the anycast prefix",
        "\"fd65:7b9c:569:681::/112\"",
    ),
    without(
        "addresses.apiserver",
        "where API servers answer; by default in the anycast prefix, as all that follow",
        "\"fd65:7b9c:569:680:98eb:c508:eb8c:1b80\"",
    ),
    without("addresses.etcd", "where etcd answers its clients", "\"fd65:7b9c:569:680:98eb:c508:ea6b:b0b2\""),
    without(
        "addresses.boot",
        "what every seed and relay is called by its neighbour",
        "\"fd65:7b9c:569:680::b007\"",
    ),
    with_default("addresses.further-mirrors", "registries to mirror besides the usual ones", "[]"),
    with_default("netboot.search", "domains that machines look for short names in", "[]"),
    with_default("netboot.ntp", "IPv6 addresses of the clocks that machines are told of", "[]"),
    with_default(
        "netboot.https",
        "whether firmware that boots by HTTP does it by HTTPS: enrol auth/boot-ca.der in it",
        "false",
    ),
    with_default(
        "mirrors.ask",
        "registries that the seed asks for what it has not got: nobody, mirrored, or everybody with a public name",
        "\"everybody\"",
    ),
    with_default(
        "mirrors.room",
        "how much of its disk the seed fills with images; never more than half",
        "\"6GiB\"",
    ),
    with_default(
        "mirrors.relay-room",
        "how much of its disk each other node fills with images that pass through it; never more than a quarter, 0 for \
         no mirrors but the seed's",
        "\"2GiB\"",
    ),
    with_default(
        "mirrors.revalidate",
        "how old a tag may be before it is looked up again, as 5m; always, or never",
        "\"5m\"",
    ),
    with_default("mirrors.endpoints", "registries that are elsewhere than at their names, as NAME=URL", "[]"),
    with_default(
        "mirrors.credentials",
        "none, or a file of users and passwords of registries as docker login writes it",
        "\"none\"",
    ),
    without(
        "mirrors.proxy",
        "proxy by which the seed reaches registries",
        "\"http://proxy.example.net:3128\"",
    ),
    with_default(
        "mirrors.no-proxy",
        "names, domains, addresses and networks that are reached without it",
        "[]",
    ),
    with_default(
        "mirrors.authorities",
        "none, or a file of authorities in PEM that registries may have besides the usual ones",
        "\"none\"",
    ),
    with_default("image.suite", "Debian's suite", "\"trixie\""),
    without(
        "image.mirror",
        "mirror of Debian's packages; by default the one that this computer's apt uses",
        "\"http://deb.example.net/debian\"",
    ),
    with_default("image.packages", "Debian's packages that machines have besides", "[]"),
    with_default(
        "image.kernel-arguments",
        "further words of the kernel's command line, as intel_iommu=on",
        "[]",
    ),
    with_default("kubernetes.source", "auto, debian, dir:PATH, or a version as v1.34.2", "\"auto\""),
    with_default(
        "kubernetes.server",
        "root of a server with the files of dl.k8s.io",
        "\"https://dl.k8s.io\"",
    ),
    with_default("kubernetes.cni", "routed, none, or the path of a CNI configuration", "\"routed\""),
    with_default("libvirt.seed-memory", "memory of the seed's virtual machine", "\"3GiB\""),
    with_default("libvirt.memory", "memory of each other virtual machine", "\"2GiB\""),
    with_default(
        "libvirt.cpus",
        "processors of each virtual machine; auto is 2, but 1 for all but the seed where they are emulated",
        "\"auto\"",
    ),
    with_default(
        "libvirt.disk",
        "size of each empty disk; it takes up no room until it is written",
        "\"10GiB\"",
    ),
    with_default("libvirt.topology", "how machines are cabled: grid (two wide), line or ring", "\"grid\""),
    with_default("libvirt.host-v4", "this computer's address towards the seed", "\"172.30.0.1/30\""),
    with_default("libvirt.host-v6", "this computer's address towards the seed", "\"2001:db8:a001::1/64\""),
    with_default("libvirt.timeout", "how long deploy waits for all machines to be Ready", "\"60m\""),
    without(
        "usb.uplink",
        "Ethernet address of the real seed's port to the world outside, if it has one",
        "\"00:00:5e:00:53:01\"",
    ),
    with_default(
        "usb.forced-links",
        "the seed's ports, by name or Ethernet address, to serve whatever is wrong with their links",
        "[]",
    ),
    without(
        "usb.size",
        "size of the disk image, where it is written to a file; what it carries and 12GiB unless said",
        "\"16GiB\"",
    ),
];

// === impl Key ===

impl Key {
    /// The setting of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The variable that overrides it, as `MESHBOOT_LIBVIRT_MEMORY`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("MESHBOOT_{}", self.name.to_uppercase().replace(['.', '-'], "_"))
    }

    /// Its default, if it has one.
    pub(crate) fn default_value(&self) -> Option<Value> {
        let table: toml::Table = format!("value = {}", self.default?).parse().ok()?;
        table.get("value").cloned()
    }

    /// Its section.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }

    /// Its name within its section.
    #[must_use]
    pub fn leaf(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, leaf)| leaf)
    }
}

/// The settings file that says nothing new: every setting with its default, commented out.
#[must_use]
pub fn example() -> String {
    let mut text = String::from(
        "# Settings of a meshboot site. Every line that begins with `#` and a name shows a default, or an example\n\
         # where there is none. A variable overrides a line: MESHBOOT_LIBVIRT_MEMORY=4GiB.\n",
    );
    let mut section = "";
    for key in KEYS {
        if key.section() != section {
            section = key.section();
            // Writing to a String cannot fail.
            let _infallible = writeln!(text, "\n[{section}]");
        }
        let (value, note) = key.default.map_or((key.example, "no default; "), |default| (default, ""));
        let _infallible = writeln!(text, "# {note}{}\n#{} = {value}", key.meaning, key.leaf());
    }
    text
}
