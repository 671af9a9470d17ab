//! Unified kernel images: systemd's EFI stub with a kernel, an initrd and a command line appended as PE sections.
//!
//! `ukify` would do the same, with a Python in the root image for it, and seconds for each change of the command
//! line. Signing for Secure Boot is a step of its own: nothing here signs.
//!
//! See the [PE format] and the [specification of these images].
//!
//! [PE format]: https://learn.microsoft.com/windows/win32/debug/pe-format
//! [specification of these images]: https://uapi-group.org/specifications/specs/unified_kernel_image/

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

#[cfg(test)]
mod tests;

/// Where the offset of the PE header is.
const LFANEW: usize = 0x3c;
const SIGNATURE: [u8; 4] = *b"PE\0\0";
/// After the signature.
const COFF_HEADER: usize = 20;
const PE32_PLUS: u16 = 0x20b;
const SECTION_HEADER: usize = 40;

const CONTAINS_CODE: u32 = 0x20;
const CONTAINS_DATA: u32 = 0x40;
const READABLE: u32 = 0x4000_0000;
/// That code and data are apart; firmware may insist on it.
const NX_COMPAT: u16 = 0x100;

/// Offsets within the optional header.
mod optional {
    pub(super) const SECTION_ALIGNMENT: usize = 32;
    pub(super) const FILE_ALIGNMENT: usize = 36;
    pub(super) const SIZE_OF_IMAGE: usize = 56;
    pub(super) const SIZE_OF_HEADERS: usize = 60;
    pub(super) const CHECKSUM: usize = 64;
    pub(super) const DLL_CHARACTERISTICS: usize = 70;
}

/// What an image is made of.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    /// systemd's `linuxx64.efi.stub`.
    pub stub: &'a Path,
    /// The kernel.
    pub linux: &'a Path,
    /// The initrd.
    pub initrd: &'a Path,
    /// What `/etc/os-release` says.
    pub os_release: &'a str,
    /// The kernel's version.
    pub uname: &'a str,
    /// The kernel's command line.
    pub cmdline: &'a str,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum UkiError {
    /// A file cannot be read or written.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It cannot be extended.
    #[error("{} cannot carry a kernel: {problem}", path.display())]
    Stub {
        /// The stub.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Writes an image; its size is given back.
///
/// # Errors
///
/// [`UkiError`].
pub fn write(parts: &Parts<'_>, to: &Path) -> Result<u64, UkiError> {
    let stub = fs::read(parts.stub).map_err(io_error("reading", parts.stub))?;
    let mut head = vec![0; 4096];
    let length = File::open(parts.linux)
        .and_then(|mut file| file.read(&mut head))
        .map_err(io_error("reading", parts.linux))?;
    head.truncate(length);

    let size = |path: &Path| fs::metadata(path).map(|file| file.len()).map_err(io_error("reading", path));
    let text = |name, text: &str| (name, CONTAINS_DATA, text.len() as u64, Content::Text(text.to_owned()));
    let sections = [
        text(".osrel", parts.os_release),
        text(".cmdline", parts.cmdline),
        text(".uname", parts.uname),
        (".linux", CONTAINS_CODE, size(parts.linux)?, Content::File(parts.linux)),
        (".initrd", CONTAINS_DATA, size(parts.initrd)?, Content::File(parts.initrd)),
    ];

    let refused = |problem| UkiError::Stub { path: parts.stub.to_owned(), problem };
    let mut image = Image::parse(stub).map_err(refused)?;
    if !nx_compatible(&head) {
        image.clear_nx_compatible();
    }
    let mut contents = Vec::new();
    for (name, kind, size, content) in sections {
        let offset = image.add_section(name, kind, size).map_err(refused)?;
        contents.push((offset, content));
    }
    let total = image.file_end;

    let failed = io_error("writing", to);
    let mut out = BufWriter::new(File::create(to).map_err(&failed)?);
    out.write_all(&image.bytes).map_err(&failed)?;
    for (offset, content) in contents {
        // A gap reads as zeros.
        out.seek(SeekFrom::Start(offset)).map_err(&failed)?;
        match content {
            Content::Text(text) => out.write_all(text.as_bytes()).map_err(&failed)?,
            Content::File(path) => {
                let file = File::open(path).map_err(io_error("reading", path))?;
                io::copy(&mut BufReader::new(file), &mut out).map_err(&failed)?;
            }
        }
    }
    let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
    file.set_len(total).and_then(|()| file.sync_all()).map_err(&failed)?;
    Ok(total)
}

fn io_error(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> UkiError {
    move |source| UkiError::Io { doing, path: path.to_owned(), source }
}

enum Content<'a> {
    Text(String),
    File(&'a Path),
}

/// A PE image whose headers are changed in place.
#[derive(Debug)]
struct Image {
    bytes: Vec<u8>,
    /// Offset of the COFF header.
    coff: usize,
    /// Offset of the optional header.
    optional: usize,
    /// Offset behind the last section's header.
    table_end: usize,
    section_alignment: u64,
    file_alignment: u64,
    /// Where the last section ends in memory.
    memory_end: u64,
    /// Where the last section ends in the file.
    file_end: u64,
}

// === impl Image ===

impl Image {
    fn parse(bytes: Vec<u8>) -> Result<Self, &'static str> {
        const SHORT: &str = "it ends within its headers";
        let header = index(u32_at(&bytes, LFANEW).ok_or(SHORT)?);
        if bytes.get(header..header + SIGNATURE.len()) != Some(&SIGNATURE[..]) {
            return Err("it is no PE image");
        }
        let coff = header + SIGNATURE.len();
        let optional = coff + COFF_HEADER;
        if u16_at(&bytes, optional) != Some(PE32_PLUS) {
            return Err("it is no image for 64 bits");
        }
        if u32_at(&bytes, coff + 8) != Some(0) {
            return Err("it has a symbol table at its end");
        }
        let count = usize::from(u16_at(&bytes, coff + 2).ok_or(SHORT)?);
        let table = optional + usize::from(u16_at(&bytes, coff + 16).ok_or(SHORT)?);
        let table_end = table + count * SECTION_HEADER;
        let alignment = |offset| {
            u32_at(&bytes, optional + offset)
                .filter(|value| value.is_power_of_two())
                .map(u64::from)
                .ok_or(SHORT)
        };
        let section_alignment = alignment(optional::SECTION_ALIGNMENT)?;
        let file_alignment = alignment(optional::FILE_ALIGNMENT)?;
        let mut memory_end = 0;
        let mut file_end = bytes.len() as u64;
        for section in (table..table_end).step_by(SECTION_HEADER) {
            let field = |offset| u32_at(&bytes, section + offset).map(u64::from).ok_or(SHORT);
            memory_end = memory_end.max(field(12)? + field(8)?);
            file_end = file_end.max(field(20)? + field(16)?);
        }
        Ok(Self { bytes, coff, optional, table_end, section_alignment, file_alignment, memory_end, file_end })
    }

    /// Adds a header for a section behind all others, and gives the offset where its content belongs.
    fn add_section(&mut self, name: &str, kind: u32, size: u64) -> Result<u64, &'static str> {
        const LARGE: &str = "the kernel or the initrd is too large";
        let headers = u32_at(&self.bytes, self.optional + optional::SIZE_OF_HEADERS).unwrap_or_default();
        if self.table_end + SECTION_HEADER > index(headers) {
            return Err("its headers have no room for another section");
        }
        let address = self.memory_end.next_multiple_of(self.section_alignment);
        let offset = self.file_end.next_multiple_of(self.file_alignment);
        let raw_size = size.next_multiple_of(self.file_alignment);
        self.memory_end = address + size;
        self.file_end = offset + raw_size;
        let narrow = |value: u64| u32::try_from(value).map_err(|_| LARGE);

        let mut header = [0; SECTION_HEADER];
        header[..name.len()].copy_from_slice(name.as_bytes());
        for (at, value) in [
            (8, narrow(size)?),
            (12, narrow(address)?),
            (16, narrow(raw_size)?),
            (20, narrow(offset)?),
            (36, kind | READABLE),
        ] {
            header[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        self.put(self.table_end, &header);
        self.table_end += SECTION_HEADER;

        let count = u16_at(&self.bytes, self.coff + 2).unwrap_or_default() + 1;
        self.put(self.coff + 2, &count.to_le_bytes());
        let image = narrow(self.memory_end.next_multiple_of(self.section_alignment))?;
        self.put(self.optional + optional::SIZE_OF_IMAGE, &image.to_le_bytes());
        // It may be absent in an application, and would be wrong otherwise.
        self.put(self.optional + optional::CHECKSUM, &[0; 4]);
        Ok(offset)
    }

    /// An image may only promise what its kernel keeps.
    fn clear_nx_compatible(&mut self) {
        let at = self.optional + optional::DLL_CHARACTERISTICS;
        let flags = u16_at(&self.bytes, at).unwrap_or_default() & !NX_COMPAT;
        self.put(at, &flags.to_le_bytes());
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

fn nx_compatible(head: &[u8]) -> bool {
    u32_at(head, LFANEW)
        .and_then(|header| {
            u16_at(head, index(header) + SIGNATURE.len() + COFF_HEADER + optional::DLL_CHARACTERISTICS)
        })
        .is_some_and(|flags| flags & NX_COMPAT != 0)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

/// An offset beyond what can be addressed is beyond the end of anything.
fn index(offset: u32) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX / 2)
}
