//! `meshboot snapshot`: its types.

use clap::Subcommand;

/// What to do with snapshots of a simulated mesh.
#[derive(Debug, Subcommand)]
pub enum Snapshot {
    /// Keep the whole mesh as it is now: disks, memory, cables. It stands still meanwhile, and goes on.
    Save {
        /// What to call it.
        #[arg(value_name = "NAME", value_parser = name)]
        name: String,
    },
    /// Put the whole mesh back to what it was. What happened since is lost.
    Restore {
        /// Which.
        #[arg(value_name = "NAME", value_parser = name)]
        name: String,
        /// How long to wait until every machine is Ready that was.
        #[arg(long, value_name = "TIME", default_value = "10m")]
        timeout: String,
    },
    /// Show what is kept.
    List,
    /// Forget one.
    Delete {
        /// Which.
        #[arg(value_name = "NAME", value_parser = name)]
        name: String,
    },
}

/// A name is a directory's.
fn name(text: &str) -> Result<String, String> {
    let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet);
    let good = (1..=64).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(allowed);
    if good {
        Ok(text.to_owned())
    } else {
        Err("a snapshot's name is 1 to 64 letters, digits, `-`, `_` and `.`, and does not begin with a dot"
            .to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_directory() {
        for good in ["before", "a.b-c_9", &"n".repeat(64)] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "../x", "a/b", ".hidden", "a b", &"n".repeat(65)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
