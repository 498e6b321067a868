//! The execution domain of a process, such as ADDR_NO_RANDOMIZE.
//!
//! CRIU reads the hexadecimal text of `/proc/PID/personality` as a decimal number, up to the first
//! letter, and never restores it. An image has to hold that number; where it does not determine
//! the real value, the extras hold it.

use super::attribute::{Attribute, Step};
use super::draft::Draft;
use super::{Rebuild, Recorded, RecordedThread};
use crate::args;
use crate::error::{Context, Error, Kind, Result};
use crate::kernel::proc;
use crate::objects::phases::Phase;
use crate::tracee::batch::Batch;
use crate::tracee::dumpee::FrozenTask;

pub struct Personality;

impl Attribute for Personality {
    fn read(&self, task: &FrozenTask, draft: &mut Draft) -> Result<()> {
        let path = format!("/proc/{}/personality", task.pid);
        let text = proc::text(&path).doing(|| format!("read {path}"))?;
        (draft.entry.personality, draft.extras.personality) = to_image(&text)?;
        Ok(())
    }

    fn validate(&self, task: &Recorded<'_>) -> Result<()> {
        validate(&task.file(), task.entry.personality)
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[(Phase::Exposure, Step::Threads(rebuild))]
    }
}

/// The number for the message, and the real one for the extras if it does not follow from that.
fn to_image(file: &str) -> Result<(u32, Option<u32>)> {
    let text = file.trim();
    let broken =
        |_| Error::new(Kind::System, format!("/proc/PID/personality is not understood: {text:?}"));
    let exact = u32::from_str_radix(text, 16).map_err(broken)?;
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let decimal = digits.parse().unwrap_or(0);
    Ok((decimal, (from_image(decimal) != Some(exact)).then_some(exact)))
}

/// The real number from that of a message; none if no text reads like it.
fn from_image(decimal: u32) -> Option<u32> {
    u32::from_str_radix(&decimal.to_string(), 16).ok()
}

/// Checks that some text reads like the number.
fn validate(file: &str, decimal: u32) -> Result<()> {
    match from_image(decimal) {
        Some(_) => Ok(()),
        None => Err(Error::image(file, format!("{decimal} is no personality"))),
    }
}

/// Late: READ_IMPLIES_EXEC changes what every later mapping may do.
fn rebuild(process: &Rebuild<'_>, _: &RecordedThread<'_>, batch: &mut Batch) {
    let exact = process.task.extras.and_then(|extras| extras.personality);
    if let Some(personality) = exact.or(from_image(process.task.entry.personality)) {
        let what = format!("set the personality {personality:#x}");
        batch.must(what, libc::SYS_personality, args![personality]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_that_criu_writes() {
        assert_eq!(to_image("00040000\n").unwrap(), (40000, None));
        assert_eq!(from_image(40000), Some(0x40000));
        assert_eq!(to_image("00000000\n").unwrap(), (0, None));
        assert_eq!(to_image("0c400000\n").unwrap(), (0, Some(0x0c40_0000)));
        assert_eq!(to_image("0040000a\n").unwrap(), (40000, Some(0x0040_000a)));
        assert!(to_image("x").is_err());
    }

    #[test]
    fn numbers_that_no_text_reads_like_are_refused() {
        validate("core-1.img", 99_999_999).unwrap();
        assert!(validate("core-1.img", 100_000_000).is_err());
    }
}
