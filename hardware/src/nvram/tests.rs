use super::*;

/// A variable store as OVMF is sold with: erased flash behind two headers.
fn blank(store_size: u32) -> Vec<u8> {
    let mut bytes = vec![0; VOLUME_SIGNATURE_AT];
    bytes.extend(VOLUME_SIGNATURE);
    bytes.extend([0xff, 0xfe, 4, 0]);
    bytes.extend(72_u16.to_le_bytes());
    bytes.resize(72, 0);
    bytes.extend(AUTHENTICATED_STORE.to_bytes_le());
    bytes.extend(store_size.to_le_bytes());
    bytes.extend([0x5a, 0xfe, 0, 0, 0, 0, 0, 0]);
    bytes.resize(72 + usize::try_from(store_size).unwrap() + 64, 0xff);
    bytes
}

fn ports() -> [NetworkPort; 2] {
    [
        NetworkPort { slot: 0x10, mac: Mac([2, 1, 2, 3, 0, 0x10]) },
        NetworkPort { slot: 0x11, mac: Mac([2, 1, 2, 3, 0, 0x11]) },
    ]
}

fn variables(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let field =
        |at: usize| usize::try_from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())).unwrap();
    let mut found = Vec::new();
    let mut at = 72 + STORE_HEADER_LENGTH;
    while bytes[at..at + 2] == VARIABLE_START {
        let (name, data) = (field(at + 36), field(at + 40));
        let start = at + VARIABLE_HEADER_LENGTH;
        let units = bytes[start..start + name].chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        let text = String::from_utf16(&units.collect::<Vec<_>>()).unwrap();
        found.push((
            text.trim_end_matches('\0').to_owned(),
            bytes[start + name..start + name + data].to_vec(),
        ));
        at = aligned(start + name + data);
    }
    found
}

#[test]
fn one_entry_per_port_and_then_a_reset() {
    let written = boot_entries(&blank(4096), &ports()).unwrap();
    let variables = variables(&written);
    let names: Vec<&str> = variables.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Boot0000", "Boot0001", "Boot0002", "BootOrder"]);
    assert_eq!(variables[3].1, [0, 0, 1, 0, 2, 0]);
    assert!(variables[2].1.ends_with(&utf16("Shell reset -w")));
}

/// The path that OVMF 2022.11 itself gave a port at slot 2 with this address.
#[test]
fn the_path_of_a_port_is_the_firmwares_own() {
    let path = network_path(NetworkPort { slot: 2, mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]) });
    let hex: String = path.iter().map(|octet| format!("{octet:02x}")).collect();
    assert_eq!(
        hex,
        "02010c00d041030a00000000010106000002030b25005254001234560000000000000000000000000000000000000000\
         00000000000001030d3c0000000000000000000000000000000000000000000000000000000000000000000000000000\
         000040000000000000000000000000000000007fff0400"
    );
}

#[test]
fn known_variables_are_kept() {
    let once = boot_entries(&blank(8192), &ports()).unwrap();
    let twice = boot_entries(&once, &ports()).unwrap();
    assert_eq!(variables(&twice).len(), 8);
    assert_eq!(variables(&twice)[..4], variables(&once)[..]);
    assert_eq!(twice.len(), once.len());
}

#[test]
fn other_files_are_refused() {
    assert_eq!(boot_entries(b"", &ports()), Err(NvramError::UnknownFormat));
    assert_eq!(boot_entries(&[0; 4096], &ports()), Err(NvramError::UnknownFormat));
    assert_eq!(boot_entries(&blank(256), &ports()), Err(NvramError::Full));
    let whole = blank(4096);
    for length in 0..200 {
        assert!(boot_entries(&whole[..length], &ports()).is_err());
    }
}
