use super::*;

fn disk(path: &str) -> Disk {
    Disk {
        path: path.into(),
        size: 10 << 30,
        partition: false,
        removable: false,
        label: None,
        part_label: None,
        ext4: false,
        blank: false,
    }
}

fn labelled(path: &str) -> Disk {
    Disk { label: Some(LABEL.into()), ext4: true, ..disk(path) }
}

#[test]
fn a_disk_that_holds_anything_is_left_alone() {
    let windows = Disk { label: Some("Windows".into()), ..disk("/dev/sda") };
    assert!(matches!(choose(&[windows]), Found::Nothing { .. }));
}

#[test]
fn state_that_exists_beats_a_larger_blank_disk() {
    let disks = [Disk { blank: true, size: 1 << 40, ..disk("/dev/sda") }, labelled("/dev/sdb")];
    assert_eq!(choose(&disks), Found::Labelled(&disks[1]));
    assert!(choose(&disks).is_certain());
    assert!(!choose(&disks[..1]).is_certain(), "a labelled one may still come");
}

#[test]
fn the_sticks_own_partition_beats_all_others() {
    let stick = Disk {
        part_label: Some(LABEL.into()),
        blank: true,
        partition: true,
        removable: true,
        size: 1 << 30,
        ..disk("/dev/sdc5")
    };
    let disks = [labelled("/dev/sda"), stick];
    assert_eq!(choose(&disks), Found::Blank(&disks[1]));
    assert!(choose(&disks).is_certain());
}

#[test]
fn a_blank_stick_or_partition_or_small_disk_is_not_formatted_unasked() {
    let stick = Disk { blank: true, removable: true, ..disk("/dev/sda") };
    let partition = Disk { blank: true, partition: true, ..disk("/dev/sdb1") };
    let small = Disk { blank: true, size: MIN_SIZE - 1, ..disk("/dev/sdc") };
    assert!(matches!(choose(&[stick, partition, small]), Found::Nothing { .. }));
}

#[test]
fn of_two_blank_disks_the_larger_then_the_first_is_taken() {
    let disks = [
        Disk { blank: true, size: 20 << 30, ..disk("/dev/sdb") },
        Disk { blank: true, size: 20 << 30, ..disk("/dev/sdc") },
        Disk { blank: true, ..disk("/dev/sda") },
    ];
    assert_eq!(choose(&disks), Found::Blank(&disks[0]));
}

#[test]
fn only_zeros_read_as_blank() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let size = 2 * PROBED + 5;
    file.as_file().set_len(size).unwrap();
    assert!(reads_blank(file.path(), size).unwrap());
    std::os::unix::fs::FileExt::write_all_at(file.as_file(), b"x", size - 1).unwrap();
    assert!(!reads_blank(file.path(), size).unwrap());
}
