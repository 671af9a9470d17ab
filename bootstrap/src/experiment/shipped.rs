//! The experiments that come with the program.

/// One of them: its name, and its file.
#[derive(Debug, Clone, Copy)]
pub struct Shipped {
    /// Its name.
    pub name: &'static str,
    /// Its file.
    pub text: &'static str,
}

macro_rules! shipped {
    ($($name:literal)*) => {
        &[$(Shipped { name: $name, text: include_str!(concat!("../../../experiments/", $name, ".yaml")) }),*]
    };
}

/// All of them, those that take least first.
pub const SHIPPED: &[Shipped] = shipped! {
    "placement"
    "power-loss"
    "cable-cut"
    "partition"
    "mirror-gone"
    "apiserver-lost"
    "control-plane-lost"
    "etcd-quorum"
};

impl Shipped {
    /// The one of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        SHIPPED.iter().find(|shipped| shipped.name == name)
    }
}
