use object::{Object as _, ObjectSection as _};

use super::*;

/// A stub with one section and room for more, as the linker of systemd's leaves it.
fn stub(headers: u32) -> Vec<u8> {
    let mut bytes = vec![0; 0x800];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"MZ");
    put(LFANEW, &0x80_u32.to_le_bytes());
    put(0x80, b"PE\0\0");
    put(0x84, &0x8664_u16.to_le_bytes());
    put(0x86, &1_u16.to_le_bytes());
    put(0x94, &240_u16.to_le_bytes());
    put(0x96, &0x22e_u16.to_le_bytes());
    put(0x98, &PE32_PLUS.to_le_bytes());
    put(0x98 + optional::SECTION_ALIGNMENT, &4096_u32.to_le_bytes());
    put(0x98 + optional::FILE_ALIGNMENT, &512_u32.to_le_bytes());
    put(0x98 + optional::SIZE_OF_HEADERS, &headers.to_le_bytes());
    put(0x98 + optional::CHECKSUM, &7_u32.to_le_bytes());
    put(0x98 + optional::DLL_CHARACTERISTICS, &NX_COMPAT.to_le_bytes());
    put(0x98 + 108, &16_u32.to_le_bytes());
    let section = 0x98 + 240;
    put(section, b".text");
    for (at, value) in [(8, 0x1f0_u32), (12, 0x1000), (16, 0x200), (20, 0x600), (36, 0x6000_0020)] {
        put(section + at, &value.to_le_bytes());
    }
    bytes
}

fn try_made(stub_bytes: &[u8], cmdline: &str) -> (PathBuf, tempfile::TempDir, Result<u64, UkiError>) {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let parts = Parts {
        stub: &file("stub", stub_bytes),
        linux: &file("linux", &[0x90; 5000]),
        initrd: &file("initrd", &[0x28; 70_001]),
        os_release: "ID=debian\n",
        uname: "6.12",
        cmdline,
    };
    let to = dir.path().join("node.efi");
    let size = write(&parts, &to);
    (to, dir, size)
}

fn made(stub_bytes: &[u8], cmdline: &str) -> Vec<u8> {
    let (to, _dir, size) = try_made(stub_bytes, cmdline);
    let bytes = fs::read(&to).unwrap();
    assert_eq!(bytes.len() as u64, size.unwrap());
    bytes
}

#[test]
fn every_part_is_found_again() {
    let bytes = made(&stub(0x600), "meshboot.role=node");
    let image = object::read::pe::PeFile64::parse(&bytes[..]).unwrap();
    let content = |name: &str| {
        let section = image.section_by_name(name).unwrap();
        let size = usize::try_from(section.size()).unwrap();
        section.data().unwrap()[..size].to_vec()
    };
    assert_eq!(content(".cmdline"), b"meshboot.role=node");
    assert_eq!(content(".osrel"), b"ID=debian\n");
    assert_eq!(content(".uname"), b"6.12");
    assert_eq!(content(".linux"), [0x90; 5000]);
    assert_eq!(content(".initrd"), [0x28; 70_001]);

    let mut end = 0;
    for section in image.sections() {
        assert!(section.address().is_multiple_of(4096) && section.address() >= end, "sections lie apart");
        end = section.address() + section.size();
    }
    let header = Image::parse(bytes).unwrap();
    let field = |offset| u32_at(&header.bytes, header.optional + offset).unwrap();
    assert_eq!(u64::from(field(optional::SIZE_OF_IMAGE)), end.next_multiple_of(4096));
    assert_eq!(field(optional::CHECKSUM), 0);
    // The kernel of this test makes no such promise.
    assert_eq!(u16_at(&header.bytes, header.optional + optional::DLL_CHARACTERISTICS), Some(0));
}

#[test]
fn the_same_parts_give_the_same_bytes() {
    assert_eq!(made(&stub(0x600), "a"), made(&stub(0x600), "a"));
    assert_ne!(made(&stub(0x600), "a"), made(&stub(0x600), "b"));
}

#[test]
fn a_stub_that_cannot_be_extended_is_refused() {
    for (bytes, problem) in [
        (stub(0x200), "no room"),
        (b"MZ".to_vec(), "ends within"),
        (vec![0; 0x800], "no PE image"),
        (stub(0x600)[..0x90].to_vec(), "64 bits"),
    ] {
        let error = try_made(&bytes, "").2.unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}
