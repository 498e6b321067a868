//! The processor: `cpuinfo.img`.
//!
//! A program that found an instruction once will use it again after its restore, and what XSAVE
//! wrote on one processor must fit the area of the other. So the image keeps the facts, and a
//! restore compares as many of them as it is told to.

use crate::error::{Error, Kind, Refusals, Result};
use crate::images::proto::CpuinfoEntry;
use crate::images::proto::CpuinfoX86Entry;
use crate::images::proto::cpuinfo_x86_entry::Vendor as VendorId;
use crate::kernel::cpu::{Cpu, Vendor, WORDS, word};

/// What of the processor is written and compared.
pub mod cpu_cap {
    /// The floating point state.
    pub const FPU: u32 = 1;
    /// Every capability.
    pub const CPU: u32 = 1 << 1;
    /// Instructions for programs.
    pub const INS: u32 = 1 << 2;
    /// `cpuinfo.img` is written by a dump and read by a restore; without it nothing is compared.
    pub const IMAGE: u32 = 1 << 3;
    pub const ALL: u32 = FPU | CPU | INS;
    /// What holds when nothing is said.
    pub const DEFAULT: u32 = FPU | INS;
}

/// Name of the image, for messages.
const IMAGE: &str = "cpuinfo.img";
const VERSION: u32 = 2;
/// Words of version 1.
const WORDS_1: usize = 12;
/// What would help when processors differ.
const REMEDY: &str = "restore on a processor that has all the old one had, or compare less with \
                      --cpu-cap if the programs do not use what is missing";

/// SSE and the MPX bounds: CRIU masks them out by mistake, and then refuses an image with a
/// component that it does not find here.
const NOT_IN_IMAGES: u64 = 1 << 1 | 1 << 3;

/// Capabilities without which the floating point state cannot be put back.
const FPU: [(usize, u32, &str); 4] = [
    (word::LEAF_1_EDX, 0, "fpu"),
    (word::LEAF_1_EDX, 24, "fxsr"),
    (word::LEAF_1_ECX, 27, "osxsave"),
    (word::LEAF_D_1_EAX, 3, "xsaves"),
];

/// Capabilities that are instructions for programs: word and bits.
const INSTRUCTIONS: [(usize, &[u32]); 10] = [
    (word::LEAF_1_EDX, &[0, 4, 8, 11, 15, 19, 23, 24, 25, 26]),
    (word::EXT_1_EDX, &[11, 22, 27, 30, 31]),
    (word::LINUX, &[16, 20]),
    (word::LEAF_1_ECX, &[0, 1, 3, 9, 13, 19, 20, 22, 23, 25, 26, 27, 28, 29, 30]),
    (word::EXT_1_ECX, &[5, 6, 7, 8, 11, 16, 21]),
    (word::LEAF_7_EBX, &[0, 3, 4, 5, 8, 9, 11, 14, 16, 17, 18, 19, 23, 26, 27, 28, 29, 30, 31]),
    (word::LEAF_D_1_EAX, &[0, 1, 2]),
    (word::LEAF_7_ECX, &[1, 6, 8, 9, 10, 11, 12, 13, 14, 22]),
    (word::EXT_8_EBX, &[0]),
    (word::LEAF_7_EDX, &[2, 3]),
];

/// The processor that this runs on.
pub fn capture() -> Result<CpuinfoEntry> {
    let cpu = Cpu::this();
    let vendor_id = match cpu.vendor {
        Vendor::Intel => VendorId::Intel,
        Vendor::Amd => VendorId::Amd,
        Vendor::Other => {
            let cause = "the image format knows processors of Intel and AMD only";
            return Err(Error::new(Kind::Refused, cause).remedy("leave --cpu-cap out"));
        }
    };
    let entry = CpuinfoX86Entry {
        vendor_id: vendor_id as i32,
        cpu_family: cpu.family,
        model: cpu.model,
        stepping: cpu.stepping,
        capability_ver: VERSION,
        capability: cpu.words.to_vec(),
        model_id: Some(cpu.name).filter(|name| !name.is_empty()),
        xfeatures_mask: Some(cpu.xfeatures & !NOT_IN_IMAGES),
        xsave_size: Some(cpu.xsave_size),
        xsave_size_max: Some(cpu.xsave_size_max),
    };
    Ok(CpuinfoEntry { x86_entry: vec![entry], ..CpuinfoEntry::default() })
}

/// Whether what was captured there goes on here, as far as `caps` asks.
pub fn check(image: &CpuinfoEntry, caps: u32) -> Result<()> {
    compare(image, &Cpu::this(), caps)
}

fn compare(image: &CpuinfoEntry, here: &Cpu, caps: u32) -> Result<()> {
    let [image] = image.x86_entry.as_slice() else {
        let cause = format!("has {} x86 processors, not one", image.x86_entry.len());
        return Err(Error::image(IMAGE, cause));
    };
    if !matches!(VendorId::try_from(image.vendor_id), Ok(VendorId::Intel | VendorId::Amd)) {
        return Err(Error::image(IMAGE, format!("vendor {} is unknown", image.vendor_id)));
    }
    let there = words(image, here)?;
    let mut differences = Refusals::default();
    if caps & cpu_cap::FPU != 0 {
        compare_fpu(image, &there, here, &mut differences);
    }
    if caps & cpu_cap::INS != 0 {
        for (index, bits) in INSTRUCTIONS {
            let mask = bits.iter().fold(0, |mask, bit| mask | 1 << bit);
            let missing = there[index] & mask & !here.words[index];
            if missing != 0 {
                let what = format!("instructions, word {index} bits {missing:#010x}");
                differ(&mut differences, what, "are missing here");
            }
        }
    }
    if caps & cpu_cap::CPU != 0 {
        for (index, (there, here)) in there.iter().zip(here.words).enumerate() {
            if *there != here {
                let what = format!("capabilities, word {index}");
                differ(&mut differences, what, &format!("{there:#010x} there, {here:#010x} here"));
            }
        }
    }
    differences.check()
}

/// Words of the image; those that an old version lacks are as here.
fn words(image: &CpuinfoX86Entry, here: &Cpu) -> Result<[u32; WORDS]> {
    let expected = match image.capability_ver {
        1 => WORDS_1,
        VERSION => WORDS,
        other => {
            return Err(Error::image(IMAGE, format!("capability version {other} is unknown")));
        }
    };
    if image.capability.len() != expected {
        let cause = format!("has {} words, not {expected}", image.capability.len());
        return Err(Error::image(IMAGE, cause));
    }
    let mut words = here.words;
    words[..expected].copy_from_slice(&image.capability);
    Ok(words)
}

fn compare_fpu(
    image: &CpuinfoX86Entry,
    there: &[u32; WORDS],
    here: &Cpu,
    differences: &mut Refusals,
) {
    for (index, bit, name) in FPU {
        if there[index] & !here.words[index] & 1 << bit != 0 {
            differ(differences, name.to_owned(), "is missing here");
        }
    }
    let missing = image.xfeatures_mask.unwrap_or(here.xfeatures) & !here.xfeatures;
    if missing != 0 {
        differ(differences, format!("xfeatures {missing:#x}"), "are missing here");
    }
    let sizes = [
        ("xsave size", image.xsave_size, here.xsave_size),
        ("largest xsave size", image.xsave_size_max, here.xsave_size_max),
    ];
    for (what, there, here) in sizes {
        let there = there.unwrap_or(here);
        if there != here {
            differ(differences, what.to_owned(), &format!("{there} there, {here} here"));
        }
    }
}

fn differ(differences: &mut Refusals, what: String, how: &str) {
    differences.refuse("processor", what, how, REMEDY);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(change: impl Fn(&mut CpuinfoX86Entry), caps: u32) -> Result<()> {
        let mut image = capture().unwrap();
        change(&mut image.x86_entry[0]);
        check(&image, caps)
    }

    #[test]
    fn a_processor_is_like_itself() {
        check(&capture().unwrap(), cpu_cap::ALL).unwrap();
    }

    #[test]
    fn what_is_compared_depends_on_what_is_asked() {
        // Virtualization is no instruction for programs.
        let vmx = |image: &mut CpuinfoX86Entry| image.capability[word::LEAF_1_ECX] ^= 1 << 5;
        changed(vmx, cpu_cap::INS | cpu_cap::FPU).unwrap();
        assert!(changed(vmx, cpu_cap::CPU).unwrap_err().to_string().contains("word 4"));
        // No processor of today has it.
        let now3d = |image: &mut CpuinfoX86Entry| image.capability[word::EXT_1_EDX] |= 1 << 31;
        changed(now3d, cpu_cap::FPU).unwrap();
        let text = changed(now3d, cpu_cap::INS).unwrap_err().to_string();
        assert!(text.contains("word 1 bits 0x80000000: are missing here"), "{text}");
        assert!(text.contains("--cpu-cap"), "{text}");
        let size = |image: &mut CpuinfoX86Entry| image.xsave_size = Some(1);
        changed(size, cpu_cap::INS).unwrap();
        assert!(changed(size, cpu_cap::FPU).unwrap_err().to_string().contains("xsave size: 1"));
    }

    #[test]
    fn a_richer_processor_takes_what_a_poorer_one_gave() {
        let poor = |image: &mut CpuinfoX86Entry| {
            image.capability[word::LEAF_7_EBX] = 0;
            image.xfeatures_mask = Some(3);
        };
        changed(poor, cpu_cap::INS | cpu_cap::FPU).unwrap();
    }

    #[test]
    fn damaged_images_are_refused() {
        let text = |change: fn(&mut CpuinfoX86Entry)| changed(change, 0).unwrap_err().to_string();
        assert!(text(|image| image.vendor_id = 9).contains("vendor 9"));
        assert!(text(|image| image.capability_ver = 3).contains("version 3"));
        assert!(text(|image| image.capability.truncate(2)).contains("has 2 words"));
        assert!(check(&CpuinfoEntry::default(), 0).is_err());
    }

    #[test]
    fn the_older_version_has_fewer_words() {
        let old = |image: &mut CpuinfoX86Entry| {
            image.capability_ver = 1;
            image.capability.truncate(WORDS_1);
            (image.xsave_size, image.xsave_size_max, image.xfeatures_mask) = (None, None, None);
        };
        changed(old, cpu_cap::ALL).unwrap();
    }
}
