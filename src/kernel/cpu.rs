//! What CPUID says of the processor, in the words that the image format keeps.

use std::arch::x86_64::{__cpuid, __cpuid_count, CpuidResult};

/// Words of capability bits in `cpuinfo.img` of version 2.
pub const WORDS: usize = 19;

/// Places of words, named by leaf and register.
pub mod word {
    pub const LEAF_1_EDX: usize = 0;
    pub const EXT_1_EDX: usize = 1;
    /// This word is of no leaf: Linux defines its bits.
    pub const LINUX: usize = 3;
    pub const LEAF_1_ECX: usize = 4;
    pub const EXT_1_ECX: usize = 6;
    pub const LEAF_7_EBX: usize = 9;
    pub const LEAF_D_1_EAX: usize = 10;
    pub const LEAF_7_ECX: usize = 11;
    pub const LEAF_F_1_EDX: usize = 12;
    pub const EXT_8_EBX: usize = 13;
    pub const LEAF_6_EAX: usize = 14;
    pub const EXT_A_EDX: usize = 15;
    pub const LEAF_F_0_EDX: usize = 16;
    pub const EXT_7_EBX: usize = 17;
    pub const LEAF_7_EDX: usize = 18;
}

const EXTENDED: u32 = 0x8000_0000;

const LINUX_REP_GOOD: u32 = 1 << 16;
const LINUX_NOPL: u32 = 1 << 20;
const LINUX_CPUID: u32 = 1 << 25;
const CACHE_MONITORING: u32 = 1 << 1;
const XSAVE: u32 = 1 << 26;
const ERMS: u32 = 1 << 9;

/// Components of the XSAVE area that programs own, each with the capability that it depends on.
const COMPONENTS: [(u32, usize, u32); 9] = [
    (0, word::LEAF_1_EDX, 0),
    (1, word::LEAF_1_EDX, 25),
    (2, word::LEAF_1_ECX, 28),
    (3, word::LEAF_7_EBX, 14),
    (4, word::LEAF_7_EBX, 14),
    (5, word::LEAF_7_EBX, 16),
    (6, word::LEAF_7_EBX, 16),
    (7, word::LEAF_7_EBX, 16),
    (9, word::LEAF_7_ECX, 3),
];

/// Who made a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    Intel,
    /// AMD or Hygon.
    Amd,
    Other,
}

/// A processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    pub vendor: Vendor,
    pub family: u32,
    pub model: u32,
    pub stepping: u32,
    pub words: [u32; WORDS],
    /// The name that the maker gave it.
    pub name: String,
    /// Components of the XSAVE area.
    pub xfeatures: u64,
    /// Bytes of the XSAVE area with the components that are enabled, and with all.
    pub xsave_size: u32,
    pub xsave_size_max: u32,
}

impl Cpu {
    /// The processor that the calling thread runs on.
    pub fn this() -> Self {
        let levels = __cpuid(0);
        let vendor = vendor(&levels);
        let (family, model, stepping) = signature(__cpuid(1).eax);
        let mut words = words(levels.eax);
        add_linux_bits(&mut words, vendor, family);
        let area = if words[word::LEAF_1_ECX] & XSAVE == 0 {
            CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 }
        } else {
            __cpuid_count(0xd, 0)
        };
        let xfeatures = xfeatures(&area, &words);
        let (xsave_size, xsave_size_max) = (area.ebx, area.ecx);
        let name = name();
        Self { vendor, family, model, stepping, words, name, xfeatures, xsave_size, xsave_size_max }
    }
}

fn vendor(levels: &CpuidResult) -> Vendor {
    let bytes = [levels.ebx, levels.edx, levels.ecx].map(u32::to_le_bytes).concat();
    match bytes.as_slice() {
        b"GenuineIntel" => Vendor::Intel,
        b"AuthenticAMD" | b"HygonGenuine" => Vendor::Amd,
        _ => Vendor::Other,
    }
}

/// Family, model and stepping; the extended fields count for some families only.
fn signature(eax: u32) -> (u32, u32, u32) {
    let base = eax >> 8 & 0xf;
    let family = if base == 0xf { base + (eax >> 20 & 0xff) } else { base };
    let low = eax >> 4 & 0xf;
    let model = if family >= 6 { low + ((eax >> 16 & 0xf) << 4) } else { low };
    (family, model, eax & 0xf)
}

fn words(level: u32) -> [u32; WORDS] {
    let leaf = |number, sub| {
        let there = if number >= EXTENDED { __cpuid(EXTENDED).eax } else { level };
        let none = CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };
        if number <= there { __cpuid_count(number, sub) } else { none }
    };
    let mut words = [0; WORDS];
    words[word::LEAF_1_EDX] = leaf(1, 0).edx;
    words[word::LEAF_1_ECX] = leaf(1, 0).ecx;
    words[word::LEAF_6_EAX] = leaf(6, 0).eax;
    let seven = leaf(7, 0);
    words[word::LEAF_7_EBX] = seven.ebx;
    words[word::LEAF_7_ECX] = seven.ecx;
    words[word::LEAF_7_EDX] = seven.edx;
    words[word::LEAF_D_1_EAX] = leaf(0xd, 1).eax;
    words[word::LEAF_F_0_EDX] = leaf(0xf, 0).edx;
    if words[word::LEAF_F_0_EDX] & CACHE_MONITORING != 0 {
        words[word::LEAF_F_1_EDX] = leaf(0xf, 1).edx;
    }
    words[word::EXT_1_EDX] = leaf(EXTENDED + 1, 0).edx;
    words[word::EXT_1_ECX] = leaf(EXTENDED + 1, 0).ecx;
    words[word::EXT_7_EBX] = leaf(EXTENDED + 7, 0).ebx;
    words[word::EXT_8_EBX] = leaf(EXTENDED + 8, 0).ebx;
    words[word::EXT_A_EDX] = leaf(EXTENDED + 0xa, 0).edx;
    if level < 0xd {
        words[word::LEAF_1_ECX] &= !XSAVE;
    }
    words
}

/// Sets and clears the bits that Linux decides by maker and family.
fn add_linux_bits(words: &mut [u32; WORDS], vendor: Vendor, family: u32) {
    words[word::LINUX] |= LINUX_CPUID | LINUX_NOPL;
    match vendor {
        Vendor::Intel if family == 15 => words[word::LEAF_7_EBX] &= !ERMS,
        Vendor::Intel if family == 6 => words[word::LINUX] |= LINUX_REP_GOOD,
        Vendor::Amd => {
            // On AMD this bit has another meaning, which the extended leaf tells better.
            words[word::LEAF_1_EDX] &= !(1 << 31);
            let level = __cpuid(1).eax;
            let late_k8 = (0x0f48..0x0f50).contains(&level) || level >= 0x0f58;
            if family >= 0x10 || family == 0xf && late_k8 {
                words[word::LINUX] |= LINUX_REP_GOOD;
            }
        }
        _ => {}
    }
}

fn xfeatures(area: &CpuidResult, words: &[u32; WORDS]) -> u64 {
    let supported = u64::from(area.eax) | u64::from(area.edx) << 32;
    let usable = COMPONENTS.iter().filter(|(_, word, bit)| words[*word] & 1 << bit != 0);
    usable.map(|(component, ..)| 1 << component).fold(0, |all, one: u64| all | one) & supported
}

fn name() -> String {
    if __cpuid(EXTENDED).eax < EXTENDED + 4 {
        return String::new();
    }
    let registers = |leaf| {
        let CpuidResult { eax, ebx, ecx, edx } = __cpuid(leaf);
        [eax, ebx, ecx, edx].map(u32::to_le_bytes).concat()
    };
    let bytes: Vec<u8> = (2..=4).flat_map(|leaf| registers(EXTENDED + leaf)).collect();
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).trim_start_matches(' ').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_fields_count_where_they_should() {
        assert_eq!(signature(0x0000_06f2), (6, 15, 2));
        assert_eq!(signature(0x0009_06ea), (6, 0x9e, 10));
        assert_eq!(signature(0x00a2_0f12), (0x19, 0x21, 2));
        assert_eq!(signature(0x0000_0543), (5, 4, 3));
    }

    /// The kernel prints the same facts.
    #[test]
    fn it_is_the_processor_of_proc_cpuinfo() {
        let cpu = Cpu::this();
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let field = |name: &str| {
            let line = text.lines().find(|line| line.split('\t').next() == Some(name)).unwrap();
            line.split_once(": ").unwrap().1.trim().to_owned()
        };
        assert_eq!(field("cpu family"), cpu.family.to_string());
        assert_eq!(field("model"), cpu.model.to_string());
        assert_eq!(field("model name"), cpu.name.trim());
        let flags = field("flags");
        let has = |flag: &str| flags.split(' ').any(|one| one == flag);
        assert_eq!(has("avx2"), cpu.words[word::LEAF_7_EBX] & 1 << 5 != 0);
        assert_eq!(has("sse4_2"), cpu.words[word::LEAF_1_ECX] & 1 << 20 != 0);
        assert_eq!(has("rep_good"), cpu.words[word::LINUX] & LINUX_REP_GOOD != 0);
        assert_eq!(cpu.xfeatures & 7, 7, "every machine this runs on has AVX");
    }
}
