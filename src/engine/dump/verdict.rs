//! Why a dump cannot be made, all reasons together.

use crate::error::{Refusals, Result};

/// What cannot be captured. Only if there is nothing of that: what was captured, but could not be
/// restored. Objects that were refused are missing in the snapshot, which would be called impossible
/// for that.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What cannot be captured.
    pub refused: Refusals,
    impossible: Refusals,
}

impl Verdict {
    /// Has `validate` say whether a restore could build what was captured of `place`.
    pub fn judge(&mut self, place: &str, validate: impl FnOnce(&mut Refusals) -> Result<()>) {
        if !self.refused.is_empty() {
            return;
        }
        if let Err(error) = validate(&mut self.impossible) {
            let (text, remedy) = error.parts();
            let reason = format!("could not be restored: {text}");
            self.impossible.refuse(place, "its images", reason, remedy.unwrap_or_default());
        }
    }

    /// Takes the impossible for refused, if nothing else is: what looks at `refused` before it touches
    /// anything will not touch it then.
    pub fn settle(&mut self) {
        if self.refused.is_empty() {
            self.refused = std::mem::take(&mut self.impossible);
        }
    }

    /// Ok if nothing speaks against the dump, else one error that lists everything.
    pub fn check(self) -> Result<()> {
        self.refused.check().and(self.impossible.check())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};

    fn impossible(_: &mut Refusals) -> Result<()> {
        Err(Error::image("core-5.img", "sends signal 99").remedy("send another"))
    }

    #[test]
    fn what_could_not_be_restored_is_a_refusal() {
        let mut verdict = Verdict::default();
        verdict.judge("pid 5", impossible);
        verdict.judge("pid 6", |_| Ok(()));
        assert!(verdict.refused.is_empty());
        verdict.settle();
        assert!(!verdict.refused.is_empty());
        let error = verdict.check().unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        let expected =
            "pid 5: its images: could not be restored: core-5.img: sends signal 99; send another";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn what_is_missing_because_it_was_refused_is_not_called_impossible() {
        let mut verdict = Verdict::default();
        verdict.judge("pid 5", impossible);
        verdict.refused.refuse("pid 6 fd 3", "socket:[7]", "is not carried", "");
        verdict.judge("pid 6", |_| panic!("nobody asks any more"));
        verdict.settle();
        let text = verdict.check().unwrap_err().to_string();
        assert_eq!(text, "pid 6 fd 3: socket:[7]: is not carried");
    }

    #[test]
    fn nothing_refused_is_good() {
        let mut verdict = Verdict::default();
        verdict.judge("pid 5", |_| Ok(()));
        verdict.check().unwrap();
    }
}
