use super::*;

#[test]
fn versions_are_read_as_distributions_write_them() {
    let debian = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\nCopyright";
    assert_eq!(QemuVersion::parse(debian), Some(QemuVersion { major: 10, minor: 0 }));
    let old = QemuVersion::parse("QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7)").unwrap();
    assert!(old < FIRST_SOUND_SMP);
    assert_eq!(QemuVersion::parse("no such thing"), None);
}

/// The guest itself is sound: it comes through where emulation is known to work.
#[tokio::test]
async fn the_guest_comes_through_in_software() {
    if crate::process::find(EMULATOR).is_none() {
        return;
    }
    match start_guest(Accel::Tcg).await {
        Ok(()) => {}
        Err(GuestError::Died(reason)) => panic!("the guest died: {reason}"),
        Err(GuestError::NotStarted(error)) => panic!("no guest was started: {error}"),
    }
}
