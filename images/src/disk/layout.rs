//! Where the parts of a seed's disk lie. Numbers only: nothing is read or written.

use gpt::partition_types::{self, Type};

const MIB: u64 = 1 << 20;
/// What partitions begin at a multiple of.
const ALIGNMENT: u64 = MIB;
/// For the second copy of the table.
const TAIL: u64 = MIB;
/// The least that is FAT32 with clusters of 4 KiB; a seed's image and a second one for an update fit.
const MIN_ESP: u64 = 272 * MIB;
/// The configuration may be replaced by a larger one.
const MIN_CONFIG: u64 = 4 * MIB;
/// squashfs images are padded to it, and no disk has larger blocks.
const BLOCK: u64 = 4096;

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// What the firmware reads.
    Esp,
    /// The root image.
    Root,
    /// The layer over it.
    Layer,
    /// The seed's configuration.
    Config,
    /// The store.
    Artefacts,
    /// What the seed writes.
    State,
}

/// A partition, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub purpose: Purpose,
    /// Where it begins.
    pub start: u64,
    /// How long it is.
    pub size: u64,
    /// How much of it is written.
    pub content: u64,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Its partitions, in order.
    pub partitions: Vec<Partition>,
    /// Its size.
    pub size: u64,
}

/// Not everything fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the seed's disk needs {} MiB, and there are {} MiB", needed.div_ceil(MIB), available / MIB)]
pub struct TooLargeError {
    /// Bytes that the disk has to have.
    pub needed: u64,
    /// Bytes that it has.
    pub available: u64,
}

// === impl Purpose ===

impl Purpose {
    /// The label by which it is found.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Esp => "EFI system partition",
            Self::Root => "meshboot-root",
            Self::Layer => "meshboot-layer",
            Self::Config => "meshboot-config",
            Self::Artefacts => "meshboot-artefacts",
            Self::State => "meshboot-state",
        }
    }

    pub(crate) const fn kind(self) -> Type {
        match self {
            Self::Esp => partition_types::EFI,
            Self::Root | Self::Layer | Self::Config | Self::Artefacts | Self::State => {
                partition_types::LINUX_FS
            }
        }
    }

    /// How long a partition with so much in it is.
    fn room_for(self, content: u64) -> u64 {
        match self {
            // FAT's own tables, and a second image beside the first.
            Self::Esp => (2 * content + 16 * MIB).next_multiple_of(MIB).max(MIN_ESP),
            Self::Config => (2 * content).next_multiple_of(MIB).max(MIN_CONFIG),
            Self::Root | Self::Layer | Self::Artefacts | Self::State => content.next_multiple_of(BLOCK),
        }
    }
}

// === impl Layout ===

impl Layout {
    /// A disk of this size; what is left is for state, of which there has to be so much.
    pub(crate) fn within(
        contents: &[(Purpose, u64)],
        size: u64,
        least_state: u64,
    ) -> Result<Self, TooLargeError> {
        let (mut partitions, start) = place(contents);
        let end = (size.saturating_sub(TAIL)) / ALIGNMENT * ALIGNMENT;
        if start + least_state > end {
            return Err(TooLargeError { needed: start + least_state + TAIL, available: size });
        }
        partitions.push(Partition { purpose: Purpose::State, start, size: end - start, content: 0 });
        Ok(Self { partitions, size })
    }

    /// A disk that is as large as its contents and so much state.
    pub(crate) fn around(contents: &[(Purpose, u64)], state: u64) -> Self {
        let (mut partitions, start) = place(contents);
        let size = state.next_multiple_of(ALIGNMENT);
        partitions.push(Partition { purpose: Purpose::State, start, size, content: 0 });
        Self { partitions, size: start + size + TAIL }
    }

    /// Bytes that are written.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.content).sum()
    }
}

/// One after the other, and where the next one would begin.
fn place(contents: &[(Purpose, u64)]) -> (Vec<Partition>, u64) {
    let mut start = ALIGNMENT;
    let mut partitions = Vec::new();
    for (purpose, content) in contents.iter().copied() {
        let size = purpose.room_for(content).max(BLOCK);
        partitions.push(Partition { purpose, start, size, content });
        start = (start + size).next_multiple_of(ALIGNMENT);
    }
    (partitions, start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contents(sizes: [u64; 5]) -> [(Purpose, u64); 5] {
        let [esp, root, layer, config, artefacts] = sizes;
        [
            (Purpose::Esp, esp),
            (Purpose::Root, root),
            (Purpose::Layer, layer),
            (Purpose::Config, config),
            (Purpose::Artefacts, artefacts),
        ]
    }

    proptest! {
        #[test]
        fn partitions_never_overlap(sizes in prop::array::uniform5(0..1_u64 << 32), size in 0..1_u64 << 38) {
            let contents = contents(sizes);
            let layouts = [Some(Layout::around(&contents, MIB)), Layout::within(&contents, size, MIB).ok()];
            for layout in layouts.into_iter().flatten() {
                let mut end = ALIGNMENT;
                for partition in &layout.partitions {
                    prop_assert!(partition.start >= end && partition.start.is_multiple_of(ALIGNMENT));
                    prop_assert!(partition.size >= partition.content && partition.size.is_multiple_of(BLOCK));
                    end = partition.start + partition.size;
                }
                prop_assert!(end + TAIL <= layout.size);
            }
        }
    }

    #[test]
    fn a_disk_that_is_too_small_says_how_large_it_has_to_be() {
        let contents = contents([40 << 20, 240 << 20, 8 << 20, 40_000, 200 << 20]);
        let error = Layout::within(&contents, 512 << 20, 2 << 30).unwrap_err();
        assert_eq!(Layout::within(&contents, error.needed, 2 << 30).unwrap().partitions.len(), 6);
        assert!(Layout::within(&contents, error.needed - MIB, 2 << 30).is_err());
        assert!(error.to_string().contains("MiB, and there are 512 MiB"), "{error}");
    }
}
