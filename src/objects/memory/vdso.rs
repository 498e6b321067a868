//! The vDSO: code of the kernel's in every address space, with its data ([vvar]) in front of it.
//!
//! It cannot be copied in from an image, only mapped by the running kernel, so program counters and
//! addresses of its functions that a process remembers are right again only if the running kernel's
//! vDSO has its functions at the same places. The image holds the old vDSO's pages to compare.
//! Every process of a kernel has the same vDSO, and ours serves as that of the dumpee: reading the
//! dumpee's own would fault its pages in.

use std::fs::File;
use std::os::unix::fs::FileExt;

use once_cell::sync::OnceCell;

use crate::error::{Context, Error, Kind, Result};
use crate::images::proto::VmaEntry;

use super::bits::status;
use crate::kernel::pid::HostPid;
use crate::kernel::proc;

/// The vDSO and its data, which stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Start of the data, which comes first.
    pub start: u64,
    pub data_len: u64,
    pub code_len: u64,
}

/// The running kernel's vDSO.
#[derive(Clone, Debug)]
pub struct Vdso {
    pub block: Block,
    pub code: Vec<u8>,
}

impl Vdso {
    /// The engine's own, which is read once; none if the kernel was told not to have one.
    pub fn own() -> Result<Option<&'static Self>> {
        static OWN: OnceCell<Option<Vdso>> = OnceCell::new();
        OWN.get_or_try_init(Self::read).map(Option::as_ref)
    }

    fn read() -> Result<Option<Self>> {
        let all = proc::maps(HostPid::own())?;
        let Some(code_at) = all.iter().find(|mapping| mapping.name == "[vdso]") else {
            return Ok(None);
        };
        let code_at = code_at.range.clone();
        let data = all.iter().filter(|mapping| mapping.name.starts_with("[vvar"));
        let start = data.map(|mapping| mapping.range.start).min().unwrap_or(code_at.start);
        let code_len = code_at.end - code_at.start;
        let mut code = vec![0; usize::try_from(code_len).expect("a few pages")];
        let mem = File::open("/proc/self/mem").doing(|| "open /proc/self/mem")?;
        mem.read_exact_at(&mut code, code_at.start).doing(|| "read our vdso")?;
        let block = Block { start, data_len: code_at.start - start, code_len };
        Ok(Some(Self { block, code }))
    }
}

/// The block that the VMAs of a process describe; none if the process has unmapped it.
pub fn block_of(vmas: &[VmaEntry]) -> Result<Option<Block>> {
    let find = |bit: u32| vmas.iter().find(|vma| vma.status & bit != 0);
    match (find(status::VVAR), find(status::VDSO)) {
        (None, None) => Ok(None),
        (Some(data), Some(code)) if data.end == code.start => Ok(Some(Block {
            start: data.start,
            data_len: code.start - data.start,
            code_len: code.end - code.start,
        })),
        _ => {
            let cause = "the vDSO does not stand behind its data, where the kernel maps it: \
                         the process has moved or unmapped one of them";
            Err(Error::new(Kind::Refused, cause))
        }
    }
}

/// Refuses an image whose vDSO the running kernel cannot stand in for.
pub fn check(saved: Block, code: &[u8], own: &Vdso) -> Result<()> {
    let foreign = |what: String| {
        Err(Error::new(Kind::Refused, format!("the image's vDSO is another kernel's: {what}"))
            .remedy("restore on the kernel that the dump was made on"))
    };
    let sizes = |block: Block| (block.data_len, block.code_len);
    if sizes(saved) != sizes(own.block) {
        return foreign(format!(
            "its data and code take {:#x} and {:#x} bytes, here {:#x} and {:#x}",
            saved.data_len, saved.code_len, own.block.data_len, own.block.code_len
        ));
    }
    if code == own.code {
        return Ok(());
    }
    match (functions(code), functions(&own.code)) {
        (Some(there), Some(here)) => match there.iter().find(|function| !here.contains(function)) {
            None => Ok(()),
            Some((name, at)) => foreign(format!("{name} is not at {at:#x} here")),
        },
        _ => foreign("its table of functions cannot be read".into()),
    }
}

/// Names and offsets in the dynamic symbol table. The vDSO is linked at address 0, so that
/// addresses are offsets.
fn functions(elf: &[u8]) -> Option<Vec<(String, u64)>> {
    const SYMBOL_SIZE: usize = 24;
    let table = Dynamic::find(elf)?;
    let count = number(elf, table.hash + 4, 4)?;
    let count = usize::try_from(count).ok().filter(|count| *count <= elf.len() / SYMBOL_SIZE)?;
    let mut all = Vec::new();
    for index in 1..count {
        let symbol = table.symbols + index * SYMBOL_SIZE;
        let name_at = table.strings.checked_add(usize::try_from(number(elf, symbol, 4)?).ok()?)?;
        let name = elf.get(name_at..)?.split(|byte| *byte == 0).next()?;
        let defined = number(elf, symbol + 6, 2)? != 0;
        if defined {
            all.push((String::from_utf8_lossy(name).into_owned(), number(elf, symbol + 8, 8)?));
        }
    }
    Some(all)
}

/// Offsets of the tables that the dynamic section names.
struct Dynamic {
    hash: usize,
    strings: usize,
    symbols: usize,
}

impl Dynamic {
    fn find(elf: &[u8]) -> Option<Self> {
        const PT_DYNAMIC: u64 = 2;
        const DT_HASH: u64 = 4;
        const DT_STRTAB: u64 = 5;
        const DT_SYMTAB: u64 = 6;
        let header = usize::try_from(number(elf, 0x20, 8)?).ok()?;
        let size = usize::try_from(number(elf, 0x36, 2)?).ok()?;
        let count = usize::try_from(number(elf, 0x38, 2)?).ok()?;
        let segments = (0..count).map(|index| header.saturating_add(index * size));
        let dynamic = segments.into_iter().find(|at| number(elf, *at, 4) == Some(PT_DYNAMIC))?;
        let at = usize::try_from(number(elf, dynamic.checked_add(8)?, 8)?).ok()?;
        let len = usize::try_from(number(elf, dynamic.checked_add(0x20)?, 8)?).ok()?;
        let section = elf.get(at..at.checked_add(len)?)?;
        let value = |wanted: u64| {
            let mut entries = section.chunks_exact(16);
            let entry = entries.find(|entry| number(entry, 0, 8) == Some(wanted))?;
            usize::try_from(number(entry, 8, 8)?).ok().filter(|at| *at < elf.len())
        };
        Some(Self { hash: value(DT_HASH)?, strings: value(DT_STRTAB)?, symbols: value(DT_SYMTAB)? })
    }
}

/// A little-endian number of `len` bytes.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let digits = bytes.get(at..at.checked_add(len)?)?;
    Some(digits.iter().rev().fold(0, |sum, digit| sum << 8 | u64::from(*digit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_vdso_has_its_functions_and_fits_itself() {
        let own = Vdso::own().unwrap().expect("this kernel has a vDSO");
        let all = functions(&own.code).unwrap();
        assert!(all.iter().any(|(name, at)| name == "__vdso_clock_gettime" && *at != 0));
        check(own.block, &own.code, own).unwrap();
    }

    #[test]
    fn moved_functions_and_other_sizes_are_refused() {
        let own = Vdso::own().unwrap().unwrap();
        let table = Dynamic::find(&own.code).unwrap();
        let mut other = own.clone();
        other.code[table.symbols + 24 + 8] ^= 0x10;
        let text = check(other.block, &other.code, own).unwrap_err().to_string();
        assert!(text.contains("is not at"), "{text}");
        let mut shorter = own.block;
        shorter.data_len -= 4096;
        assert!(check(shorter, &own.code, own).is_err());
    }

    #[test]
    fn harmless_differences_are_accepted() {
        let own = Vdso::own().unwrap().unwrap();
        let mut patched = own.code.clone();
        let end = patched.len() - 1;
        patched[end] ^= 1;
        check(own.block, &patched, own).unwrap();
    }

    #[test]
    fn nonsense_has_no_functions() {
        for elf in [&[][..], &[0xff; 4096], b"\x7fELF"] {
            assert_eq!(functions(elf), None);
        }
    }
}
