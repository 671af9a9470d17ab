//! What a program asks of the dynamic linker.

use object::{
    Endianness,
    elf::{
        DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_STRSZ, DT_STRTAB, Dyn64, EM_X86_64, FileHeader64, ProgramHeader64,
    },
    read::{
        StringTable,
        elf::{Dyn, FileHeader, ProgramHeader},
    },
};

/// The first bytes of every ELF file.
pub(super) const MAGIC: &[u8; 4] = b"\x7fELF";

/// What a program or library needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// The dynamic linker.
    pub(super) interpreter: Option<String>,
    /// Libraries by their names.
    pub(super) libraries: Vec<String>,
    /// Where to look for them before anywhere else; may hold `$ORIGIN`.
    pub(super) search: Vec<String>,
}

/// Reads an ELF file for x86-64. `None` if it is for another machine.
pub(super) fn needs(data: &[u8]) -> Result<Option<Needs>, object::Error> {
    let header = FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    if header.e_machine(endian) != EM_X86_64 {
        return Ok(None);
    }
    let segments = header.program_headers(endian, data)?;
    let tag = |entry: &Dyn64<Endianness>| entry.tag(endian);
    let mut needs = Needs::default();
    for segment in segments {
        if let Some(interpreter) = segment.interpreter(endian, data)? {
            needs.interpreter = Some(String::from_utf8_lossy(interpreter).into_owned());
        }
        let Some(dynamic) = segment.dynamic(endian, data)? else { continue };
        let value =
            |wanted: i64| dynamic.iter().find(|entry| tag(entry) == wanted).map(|entry| entry.d_val(endian));
        let (Some(address), Some(size)) = (value(DT_STRTAB), value(DT_STRSZ)) else { continue };
        let in_segment = |segment: &ProgramHeader64<Endianness>| {
            segment.data_range(endian, data, address, size).unwrap_or_default()
        };
        let strings = segments.iter().find_map(in_segment).unwrap_or_default();
        let strings = StringTable::new(strings, 0, strings.len() as u64);
        for entry in dynamic {
            let tag = tag(entry);
            if !matches!(tag, DT_NEEDED | DT_RPATH | DT_RUNPATH) {
                continue;
            }
            let text = String::from_utf8_lossy(entry.string(endian, strings)?).into_owned();
            if tag == DT_NEEDED {
                needs.libraries.push(text);
            } else {
                needs.search.extend(text.split(':').map(str::to_owned));
            }
        }
    }
    Ok(Some(needs))
}
