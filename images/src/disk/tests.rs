use std::{collections::BTreeMap, os::unix::fs::MetadataExt};

use super::*;

/// A disk of small parts, and the folder they are in.
fn parts() -> (tempfile::TempDir, SeedDisk) {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, byte: u8, length: usize| {
        let path = dir.path().join(name);
        fs::write(&path, vec![byte; length]).unwrap();
        path
    };
    let disk = SeedDisk {
        uki: file("seed.efi", 1, 3_000_001),
        root: file("root", 2, 8 * 4096),
        layer: file("layer", 3, 4096),
        config: br#"{"ignition":{"version":"3.3.0"}}"#.to_vec(),
        artefacts: file("artefacts", 4, 3 * 4096),
    };
    (dir, disk)
}

fn read(path: &Path, start: u64, size: u64) -> Vec<u8> {
    let mut file = File::open(path).unwrap();
    file.seek(SeekFrom::Start(start)).unwrap();
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    file.read_exact(&mut bytes).unwrap();
    bytes
}

fn check(path: &Path, disk: &SeedDisk) -> BTreeMap<String, (u64, u64)> {
    let table = GptConfig::new().open(path).unwrap();
    assert!(table.primary_header().is_ok() && table.backup_header().is_ok());
    let found: BTreeMap<_, _> = table
        .partitions()
        .values()
        .map(|part| (part.name.clone(), (part.first_lba * 512, (part.last_lba - part.first_lba + 1) * 512)))
        .collect();
    let content = |label: &str| {
        let (start, size) = found[label];
        read(path, start, size)
    };
    assert_eq!(content("meshboot-root"), vec![2; 8 * 4096], "exactly as long as the image");
    assert_eq!(content("meshboot-layer"), vec![3; 4096]);
    assert_eq!(content("meshboot-artefacts"), vec![4; 3 * 4096]);
    let config = content("meshboot-config");
    let (text, padding) = config.split_at(disk.config.len());
    assert_eq!(text, disk.config);
    assert!(padding.iter().all(|byte| *byte == 0));
    let (start, _) = found["meshboot-state"];
    assert!(read(path, start, 1 << 20).iter().all(|byte| *byte == 0), "state begins blank");

    let (start, size) = found["EFI system partition"];
    let esp = io::Cursor::new(read(path, start, size));
    let volume = fatfs::FileSystem::new(esp, fatfs::FsOptions::new()).unwrap();
    assert_eq!(volume.fat_type(), fatfs::FatType::Fat32);
    let mut uki = Vec::new();
    volume.root_dir().open_file("EFI/BOOT/BOOTX64.EFI").unwrap().read_to_end(&mut uki).unwrap();
    assert_eq!(uki, vec![1; 3_000_001]);
    found
}

#[test]
fn everything_is_found_on_a_new_disk() {
    let (dir, disk) = parts();
    let path = dir.path().join("seed.img");
    let layout = disk.write_file(&path, None, &()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), layout.size);
    let found = check(&path, &disk);
    assert_eq!(found["meshboot-state"].1, DEFAULT_STATE);
    assert!(fs::metadata(&path).unwrap().blocks() * 512 < 32 << 20, "it is sparse");
}

#[test]
fn a_file_is_as_long_as_was_said_or_not_there() {
    let (dir, disk) = parts();
    let path = dir.path().join("seed.img");
    disk.write_file(&path, Some(4 << 30), &()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 4 << 30);
    assert!(check(&path, &disk)["meshboot-state"].1 > 3 << 30);
    fs::remove_file(&path).unwrap();
    let error = disk.write_file(&path, Some(MIN_STATE), &()).unwrap_err();
    assert!(matches!(error, WriteDiskError::TooLarge(_)) && !path.exists(), "{error}");
}

#[test]
fn an_old_disk_is_written_over() {
    let (dir, disk) = parts();
    let path = dir.path().join("stick");
    let size = 4_u64 << 30;
    let file = File::create(&path).unwrap();
    file.set_len(size).unwrap();
    let layout = disk.layout(Some(size)).unwrap();
    let state = layout.partitions.last().unwrap();
    write_at(&file, state.start, &mut &[7_u8; 4096][..], |_| ()).unwrap();
    disk.write_device(&path, &()).unwrap();
    check(&path, &disk);
}

#[test]
fn too_small_a_disk_is_left_alone() {
    let (dir, disk) = parts();
    let path = dir.path().join("stick");
    fs::write(&path, vec![9; 1 << 20]).unwrap();
    let error = disk.write_device(&path, &()).unwrap_err();
    assert!(matches!(error, WriteDiskError::TooLarge(_)), "{error}");
    assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 9));
}

#[test]
fn a_part_that_is_missing_is_named() {
    let (dir, mut disk) = parts();
    disk.layer = dir.path().join("nowhere");
    let path = dir.path().join("seed.img");
    let error = disk.write_file(&path, None, &()).unwrap_err();
    assert!(error.to_string().ends_with("nowhere"), "{error}");
    assert!(!path.exists());
}
