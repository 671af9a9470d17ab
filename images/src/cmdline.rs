//! The kernel's command line: the same for every machine of a role that boots these images.

use std::{fmt, net::Ipv6Addr};

use crate::store::Digest;

/// What a machine is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It gets everything from a neighbour.
    Node,
    /// It has everything on its own disk.
    Seed,
}

/// What the initrd, systemd and Ignition are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cmdline {
    /// What the machine is to become.
    pub role: Role,
    /// The catalogue's [name](crate::catalog::Catalog::id): what a machine says that it was started from.
    pub image: String,
    /// Where a neighbour answers, whichever it is.
    pub boot: Ipv6Addr,
    /// The root image.
    pub root: Digest,
    /// The layer over it.
    pub layer: Digest,
    /// Further words, such as `console=ttyS1,115200`; the last console named is the one that services write to.
    pub extra: Vec<String>,
}

/// The screen, and the first serial port, which is all that a rack or a virtual machine has.
const CONSOLES: [&str; 2] = ["console=tty0", "console=ttyS0"];

// === impl Role ===

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "node",
            Self::Seed => "seed",
        })
    }
}

// === impl Cmdline ===

impl fmt::Display for Cmdline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "meshboot.role={} meshboot.image={} meshboot.boot={} meshboot.root={} meshboot.layer={}",
            self.role,
            self.image,
            self.boot,
            self.root.hex(),
            self.layer.hex()
        )?;
        // Ignition runs at each boot: there is no other state than what it writes.
        f.write_str(" ignition.firstboot ignition.platform.id=metal")?;
        for console in CONSOLES {
            write!(f, " {console}")?;
        }
        // Warnings, failures and what the scripts say are shown; and those are not to be dropped for being many.
        f.write_str(" loglevel=5 printk.devkmsg=on systemd.show_status=error rd.systemd.show_status=error")?;
        // No disk's partitions are mounted for being there.
        f.write_str(" systemd.gpt_auto=no systemd.getty_auto=no")?;
        for word in &self.extra {
            write!(f, " {word}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_what_the_initrd_asks_for() {
        let cmdline = Cmdline {
            role: Role::Node,
            image: "0123456789abcdef".to_owned(),
            boot: "fd65:7b9c:569:680::b007".parse().unwrap(),
            root: Digest::of("root"),
            layer: Digest::of("layer"),
            extra: vec!["console=ttyS1".to_owned()],
        };
        let text = cmdline.to_string();
        let value = |key: &str| {
            text.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
        };
        assert_eq!(value("meshboot.role").as_deref(), Some("node"));
        assert_eq!(value("meshboot.image").as_deref(), Some("0123456789abcdef"));
        assert_eq!(value("meshboot.boot").as_deref(), Some("fd65:7b9c:569:680::b007"));
        assert_eq!(value("meshboot.root"), Some(Digest::of("root").hex()));
        assert_eq!(value("meshboot.layer"), Some(Digest::of("layer").hex()));
        assert!(text.ends_with(" console=ttyS1") && !text.contains("  "), "{text}");
        assert!(text.is_ascii() && text.len() < 2048, "the kernel cuts longer ones");
    }
}
