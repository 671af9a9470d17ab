use super::*;

#[test]
fn versions_are_read_as_distributions_write_them() {
    let debian = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\nCopyright";
    assert_eq!(QemuVersion::parse(debian), Some(QemuVersion { major: 10, minor: 0 }));
    let old = QemuVersion::parse("QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7)").unwrap();
    assert!(old < FIRST_SOUND_SMP);
    assert_eq!(QemuVersion::parse("no such thing"), None);
}

/// What the probe waits for comes where emulation is known to work.
#[tokio::test]
async fn the_firmware_comes_as_far_as_its_console_in_software() {
    let Some(firmware) = Firmware::find().filter(|_| crate::process::find(EMULATOR).is_some()) else {
        return;
    };
    assert_eq!(start_firmware(Accel::Tcg, &firmware).await.unwrap(), None);
}

/// A flash without code never writes a word.
#[tokio::test]
async fn a_machine_that_does_not_start_is_noticed() {
    if crate::process::find(EMULATOR).is_none() {
        return;
    }
    let flash = tempfile::NamedTempFile::new().unwrap();
    let firmware = Firmware { code: flash.path().to_owned(), variables: flash.path().to_owned() };
    assert!(start_firmware(Accel::Tcg, &firmware).await.unwrap().is_some());
}
