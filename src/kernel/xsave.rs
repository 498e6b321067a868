//! Where the components of the extended processor state stand in the XSAVE layout.
//!
//! The places differ between makers of processors, so CPUID is asked for them. In a virtual machine
//! each CPUID traps to the hypervisor (some 20 µs), so it is asked only once.

use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::ops::Range;

use once_cell::sync::Lazy;

/// AVX: upper halves of ymm0-15.
pub const YMM: u32 = 2;
/// MPX: bound registers.
pub const BNDREGS: u32 = 3;
/// MPX: configuration and status.
pub const BNDCSR: u32 = 4;
/// AVX-512: k0-7.
pub const OPMASK: u32 = 5;
/// AVX-512: upper halves of zmm0-15.
pub const ZMM_HI256: u32 = 6;
/// AVX-512: zmm16-31.
pub const HI16_ZMM: u32 = 7;
/// Protection keys.
pub const PKRU: u32 = 9;
/// AMX: configuration of the tiles.
pub const TILE_CONFIG: u32 = 17;
/// AMX: the tiles.
pub const TILE_DATA: u32 = 18;

/// Bytes of the x87 and SSE area that comes first.
pub const LEGACY_SIZE: usize = 512;
/// Where the header with the bitmap of present components stands.
pub const HEADER: Range<usize> = LEGACY_SIZE..LEGACY_SIZE + 64;

const LEAF_FEATURES: u32 = 7;
const LEAF_XSTATE: u32 = 0xd;

/// The XSAVE layout of a processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the whole buffer.
    pub size: usize,
    /// Whether the processor has shadow stacks (used or not).
    pub shadow_stacks: bool,
    /// Component number and place, ascending.
    pub components: Vec<(u32, Range<usize>)>,
}

impl Layout {
    /// The layout on this machine.
    pub fn host() -> &'static Self {
        static HOST: Lazy<Layout> = Lazy::new(Layout::ask);
        &HOST
    }

    /// Where a component stands; `None` if this processor does not have it.
    pub fn component(&self, number: u32) -> Option<Range<usize>> {
        let (_, place) = self.components.iter().find(|(found, _)| *found == number)?;
        Some(place.clone())
    }

    fn ask() -> Self {
        let whole = __cpuid_count(LEAF_XSTATE, 0);
        let supported = u64::from(whole.eax) | u64::from(whole.edx) << 32;
        let size = whole.ebx as usize;
        let components = (YMM..63)
            .filter(|number| supported & (1 << number) != 0)
            .map(|number| (number, Self::ask_place(number)))
            .filter(|(_, place)| !place.is_empty() && place.end <= size)
            .collect();
        Self { size, shadow_stacks: Self::ask_shadow_stacks(), components }
    }

    fn ask_place(number: u32) -> Range<usize> {
        let one = __cpuid_count(LEAF_XSTATE, number);
        let offset = one.ebx as usize;
        offset..offset + one.eax as usize
    }

    fn ask_shadow_stacks() -> bool {
        const ECX_SHADOW_STACKS: u32 = 1 << 7;
        __cpuid(0).eax >= LEAF_FEATURES
            && __cpuid_count(LEAF_FEATURES, 0).ecx & ECX_SHADOW_STACKS != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_follow_each_other_inside_the_buffer() {
        let layout = Layout::host();
        assert!(layout.size >= HEADER.end);
        for (number, place) in &layout.components {
            assert!(place.start >= HEADER.end && place.end <= layout.size, "component {number}");
        }
        let ymm = layout.component(YMM).expect("every machine this runs on has AVX");
        assert_eq!(ymm, 576..832);
    }
}
