//! The extended processor state: x87, SSE, AVX, AVX-512, protection keys, AMX tiles.
//!
//! ptrace gives it in the XSAVE layout, whose places differ between makers of processors; an
//! image holds it by component, so that it can be restored on another maker's. The kernel fills
//! the places of components that the bitmap calls unused with their initial values, and CRIU
//! stores them all. A component that CRIU has no field for (AMX tiles) goes to the extras.

use std::ops::Range;

use super::attribute::{Attribute, Seen};
use super::draft::ThreadDraft;
use super::{Recorded, RecordedThread};
use crate::error::{Error, Refusals, Result};
use crate::images::proto::{
    UserX86CetEntry, UserX86FpregsEntry, UserX86XsaveEntry, XstateComponentEntry,
};
use crate::kernel::xsave::{
    self, BNDCSR, BNDREGS, HI16_ZMM, LEGACY_SIZE, Layout, OPMASK, PKRU, YMM, ZMM_HI256,
};
use crate::tracee::blank::FinalState;

const ST: Range<usize> = 32..160;
const XMM: Range<usize> = 160..416;
const XSTATE_BV: usize = LEGACY_SIZE;
/// Components 0 and 1: always there, at fixed places.
const X87_SSE: u64 = 3;
/// MXCSR has no bits above these.
const MXCSR_BITS: u32 = 0xffff;
/// Components that the image format has a field for.
const CARRIED: [u32; 7] = [YMM, BNDREGS, BNDCSR, OPMASK, ZMM_HI256, HI16_ZMM, PKRU];

pub struct ProcessorState;

impl Attribute for ProcessorState {
    fn read_thread(
        &self,
        seen: &Seen<'_>,
        thread: &mut ThreadDraft,
        refusals: &mut Refusals,
    ) -> Result<()> {
        if seen.status.shadow_stack {
            let reason = "it can only be rebuilt by code running in the process";
            refusals.refuse(format!("thread {}", thread.tid), "shadow stack", reason, "");
        }
        let (own, more) = to_image(&seen.frozen.xstate, Layout::host())?;
        (thread.info.fpregs, thread.extras.xstate) = (own, more);
        Ok(())
    }

    fn validate_thread(&self, thread: &RecordedThread<'_>) -> Result<()> {
        validate(&thread.file(), &thread.info.fpregs, more_of(thread), Layout::host())
    }

    fn set_final(&self, task: &Recorded<'_>, states: &mut [FinalState]) -> Result<()> {
        for (thread, state) in task.threads.iter().zip(states) {
            state.xstate = from_image(&thread.info.fpregs, more_of(thread), Layout::host());
        }
        Ok(())
    }
}

/// The components that only the extras can hold.
fn more_of<'t>(thread: &'t RecordedThread<'_>) -> &'t [XstateComponentEntry] {
    thread.extras.map_or(&[], |extras| &extras.xstate)
}

/// What ptrace gave as an image holds it, and the components that only the extras can hold.
fn to_image(
    xstate: &[u8],
    layout: &Layout,
) -> Result<(UserX86FpregsEntry, Vec<XstateComponentEntry>)> {
    if xstate.len() != layout.size {
        let (got, want) = (xstate.len(), layout.size);
        let cause = format!("the processor state has {got} bytes, {want} were expected");
        return Err(Error::new(crate::error::Kind::System, cause));
    }
    let mut entry = legacy_to_image(xstate);
    entry.xsave = Some(xsave_to_image(xstate, layout));
    Ok((entry, extras(xstate, layout)))
}

fn legacy_to_image(xstate: &[u8]) -> UserX86FpregsEntry {
    UserX86FpregsEntry {
        cwd: u16_at(xstate, 0).into(),
        swd: u16_at(xstate, 2).into(),
        twd: u16_at(xstate, 4).into(),
        fop: u16_at(xstate, 6).into(),
        rip: u64_at(xstate, 8),
        rdp: u64_at(xstate, 16),
        mxcsr: u32_at(xstate, 24),
        mxcsr_mask: u32_at(xstate, 28),
        st_space: words(&xstate[ST]),
        xmm_space: words(&xstate[XMM]),
        padding: Vec::new(),
        xsave: None,
    }
}

fn xsave_to_image(xstate: &[u8], layout: &Layout) -> UserX86XsaveEntry {
    let place = |number| layout.component(number).map_or(&[][..], |place| &xstate[place]);
    UserX86XsaveEntry {
        xstate_bv: u64_at(xstate, XSTATE_BV),
        ymmh_space: words(place(YMM)),
        bndreg_state: longs(place(BNDREGS)),
        bndcsr_state: longs(place(BNDCSR)),
        opmask_reg: longs(place(OPMASK)),
        zmm_upper: longs(place(ZMM_HI256)),
        hi16_zmm: longs(place(HI16_ZMM)),
        pkru: words(place(PKRU)),
        // A processor with shadow stacks has the field, all zero where they are not used.
        cet: layout.shadow_stacks.then(UserX86CetEntry::default),
    }
}

fn extras(xstate: &[u8], layout: &Layout) -> Vec<XstateComponentEntry> {
    let used = u64_at(xstate, XSTATE_BV);
    layout
        .components
        .iter()
        .filter(|(number, _)| used & (1 << number) != 0 && !CARRIED.contains(number))
        .map(|(number, place)| XstateComponentEntry {
            component: *number,
            data: xstate[place.clone()].to_vec(),
        })
        .collect()
}

/// What ptrace is to set; [`validate`] has passed.
fn from_image(
    entry: &UserX86FpregsEntry,
    extras: &[XstateComponentEntry],
    layout: &Layout,
) -> Vec<u8> {
    let mut xstate = vec![0; layout.size];
    legacy_from_image(entry, &mut xstate);
    let mut used = X87_SSE;
    let default = UserX86XsaveEntry::default();
    let xsave = entry.xsave.as_ref().unwrap_or(&default);
    let ours = carried(xsave).into_iter().map(|(number, field)| (number, field.bytes()));
    let theirs = extras.iter().map(|extra| (extra.component, extra.data.clone()));
    for (number, bytes) in ours.chain(theirs) {
        if xsave.xstate_bv & (1 << number) == 0 {
            continue;
        }
        if let Some(place) = layout.component(number).filter(|place| place.len() == bytes.len()) {
            xstate[place].copy_from_slice(&bytes);
            used |= 1 << number;
        }
    }
    xstate[XSTATE_BV..XSTATE_BV + 8].copy_from_slice(&used.to_le_bytes());
    xstate
}

fn legacy_from_image(entry: &UserX86FpregsEntry, xstate: &mut [u8]) {
    for (at, value) in [(0, entry.cwd), (2, entry.swd), (4, entry.twd), (6, entry.fop)] {
        xstate[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
    }
    xstate[8..16].copy_from_slice(&entry.rip.to_le_bytes());
    xstate[16..24].copy_from_slice(&entry.rdp.to_le_bytes());
    xstate[24..28].copy_from_slice(&entry.mxcsr.to_le_bytes());
    xstate[28..32].copy_from_slice(&entry.mxcsr_mask.to_le_bytes());
    xstate[ST].copy_from_slice(&Field::Words(&entry.st_space).bytes());
    xstate[XMM].copy_from_slice(&Field::Words(&entry.xmm_space).bytes());
}

/// Checks lengths, and that this processor has every component that is in use.
fn validate(
    file: &str,
    entry: &UserX86FpregsEntry,
    extras: &[XstateComponentEntry],
    layout: &Layout,
) -> Result<()> {
    if entry.st_space.len() * 4 != ST.len() || entry.xmm_space.len() * 4 != XMM.len() {
        return Err(Error::image(file, "the x87 or SSE registers are incomplete"));
    }
    if entry.mxcsr & !MXCSR_BITS != 0 {
        return Err(Error::image(file, format!("{:#x} is no MXCSR value", entry.mxcsr)));
    }
    let Some(xsave) = &entry.xsave else { return Ok(()) };
    if xsave.cet.is_some_and(|cet| cet.cet != 0) {
        return Err(Error::image(file, "the thread uses a shadow stack, which is not carried"));
    }
    for number in YMM..64 {
        if xsave.xstate_bv & (1 << number) != 0 {
            let len = stored_len(xsave, extras, number);
            validate_component(file, number, len, layout.component(number))?;
        }
    }
    Ok(())
}

fn stored_len(
    xsave: &UserX86XsaveEntry,
    extras: &[XstateComponentEntry],
    number: u32,
) -> Option<usize> {
    let ours = carried(xsave).into_iter().find(|(found, _)| *found == number);
    let theirs = extras.iter().find(|extra| extra.component == number);
    ours.map(|(_, field)| field.bytes().len()).or(theirs.map(|extra| extra.data.len()))
}

fn validate_component(
    file: &str,
    number: u32,
    stored: Option<usize>,
    place: Option<Range<usize>>,
) -> Result<()> {
    let name = name(number);
    match (stored, place) {
        (None, _) => Err(Error::image(file, format!("{name} is in use but not stored"))
            .remedy("dump with this program: the CRIU format has no field for it")),
        (Some(_), None) => {
            Err(Error::image(file, format!("{name} is in use and this processor has none"))
                .remedy("restore on a processor with the features of the dumping one"))
        }
        (Some(stored), Some(place)) if stored != place.len() => {
            let want = place.len();
            Err(Error::image(file, format!("{name} has {stored} bytes instead of {want}")))
        }
        _ => Ok(()),
    }
}

fn name(number: u32) -> String {
    match number {
        YMM => "AVX state".into(),
        BNDREGS | BNDCSR => "MPX state".into(),
        OPMASK | ZMM_HI256 | HI16_ZMM => "AVX-512 state".into(),
        PKRU => "the protection key register".into(),
        xsave::TILE_CONFIG | xsave::TILE_DATA => "AMX state".into(),
        other => format!("processor state component {other}"),
    }
}

/// A repeated field of the message.
#[derive(Clone, Copy)]
enum Field<'a> {
    Words(&'a [u32]),
    Longs(&'a [u64]),
}

impl Field<'_> {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Words(words) => words.iter().flat_map(|word| word.to_le_bytes()).collect(),
            Self::Longs(longs) => longs.iter().flat_map(|long| long.to_le_bytes()).collect(),
        }
    }
}

fn carried(xsave: &UserX86XsaveEntry) -> [(u32, Field<'_>); 7] {
    [
        (YMM, Field::Words(&xsave.ymmh_space)),
        (BNDREGS, Field::Longs(&xsave.bndreg_state)),
        (BNDCSR, Field::Longs(&xsave.bndcsr_state)),
        (OPMASK, Field::Longs(&xsave.opmask_reg)),
        (ZMM_HI256, Field::Longs(&xsave.zmm_upper)),
        (HI16_ZMM, Field::Longs(&xsave.hi16_zmm)),
        (PKRU, Field::Words(&xsave.pkru)),
    ]
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32_at(word, 0)).collect()
}

fn longs(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks_exact(8).map(|long| u64_at(long, 0)).collect()
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A processor with everything, at the places where Intel has them.
    fn layout() -> Layout {
        let components = vec![
            (YMM, 576..832),
            (BNDREGS, 960..1024),
            (BNDCSR, 1024..1088),
            (OPMASK, 1088..1152),
            (ZMM_HI256, 1152..1664),
            (HI16_ZMM, 1664..2688),
            (PKRU, 2688..2696),
            (xsave::TILE_CONFIG, 2752..2816),
            (xsave::TILE_DATA, 2816..11008),
        ];
        Layout { size: 11008, shadow_stacks: true, components }
    }

    /// All components in use, each byte different from its neighbours.
    fn full_state() -> Vec<u8> {
        let layout = layout();
        let mut xstate = vec![0u8; layout.size];
        let areas = layout.components.iter().map(|(_, place)| place.clone());
        for place in areas.chain([0..24, ST, XMM]) {
            for at in place {
                xstate[at] = (at % 251) as u8;
            }
        }
        xstate[24..32].copy_from_slice(&0x0002_ffff_0000_1fa0u64.to_le_bytes());
        let used = layout.components.iter().fold(X87_SSE, |used, (number, _)| used | 1 << number);
        xstate[XSTATE_BV..XSTATE_BV + 8].copy_from_slice(&used.to_le_bytes());
        xstate
    }

    #[test]
    fn every_component_goes_to_an_image_and_back() {
        let (xstate, layout) = (full_state(), layout());
        let (entry, extras) = to_image(&xstate, &layout).unwrap();
        assert_eq!((entry.mxcsr, entry.mxcsr_mask), (0x1fa0, 0x2ffff));
        let xsave = entry.xsave.as_ref().unwrap();
        assert_eq!(
            (xsave.ymmh_space.len(), xsave.zmm_upper.len(), xsave.hi16_zmm.len()),
            (64, 64, 128)
        );
        assert_eq!((xsave.opmask_reg.len(), xsave.pkru.len(), xsave.bndreg_state.len()), (8, 2, 8));
        assert_eq!(extras.len(), 2);
        validate("core-1.img", &entry, &extras, &layout).unwrap();
        assert_eq!(from_image(&entry, &extras, &layout), xstate);
    }

    #[test]
    fn state_moves_to_a_processor_with_other_places() {
        let mut layout = layout();
        let (entry, extras) = to_image(&full_state(), &layout).unwrap();
        layout.components[0].1 = 704..960;
        let moved = from_image(&entry, &extras, &layout);
        assert_eq!(moved[704..960], full_state()[576..832]);
    }

    #[test]
    fn unused_components_are_stored_but_not_restored() {
        let mut xstate = full_state();
        xstate[XSTATE_BV..XSTATE_BV + 8].copy_from_slice(&X87_SSE.to_le_bytes());
        let (entry, extras) = to_image(&xstate, &layout()).unwrap();
        assert_eq!(entry.xsave.as_ref().unwrap().ymmh_space.len(), 64);
        assert!(extras.is_empty());
        let back = from_image(&entry, &extras, &layout());
        assert_eq!(u64_at(&back, XSTATE_BV), X87_SSE);
        assert!(back[576..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn state_that_this_processor_lacks_is_refused() {
        let (entry, extras) = to_image(&full_state(), &layout()).unwrap();
        let mut small = layout();
        small.components.retain(|(number, _)| *number == YMM);
        let text = validate("core-1.img", &entry, &extras, &small).unwrap_err().to_string();
        assert!(text.contains("MPX state is in use and this processor has none"), "{text}");
        let text = validate("core-1.img", &entry, &[], &layout()).unwrap_err().to_string();
        assert!(text.contains("AMX state is in use but not stored"), "{text}");
    }

    #[test]
    fn torn_state_is_refused() {
        let (good, extras) = to_image(&full_state(), &layout()).unwrap();
        let mut short = good.clone();
        short.xsave.as_mut().unwrap().zmm_upper.pop();
        let mut odd = good.clone();
        odd.mxcsr = 0x10000;
        let mut cut = good;
        cut.st_space.pop();
        for (entry, words) in [(short, "504 bytes"), (odd, "MXCSR"), (cut, "incomplete")] {
            let text = validate("core-1.img", &entry, &extras, &layout()).unwrap_err().to_string();
            assert!(text.contains(words), "{text}");
        }
    }
}
