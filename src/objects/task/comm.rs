//! The name of a thread.
//!
//! The kernel takes any bytes but NUL, the message only text: a name that is no UTF-8 is stored
//! readably for others and exactly in the extras.

use super::attribute::{Attribute, Seen, Step};
use super::draft::{Draft, ThreadDraft};
use super::{Rebuild, RecordedThread};
use crate::args;
use crate::error::{Context, Refusals, Result};
use crate::images::snapshot::Snapshot;
use crate::kernel::proc;
use crate::objects::phases::Phase;
use crate::tracee::batch::Batch;
use crate::tracee::dumpee::FrozenTask;

/// Bytes of a name with its end.
const SIZE: usize = 16;

pub struct Comm;

impl Attribute for Comm {
    fn read_thread(
        &self,
        seen: &Seen<'_>,
        thread: &mut ThreadDraft,
        _: &mut Refusals,
    ) -> Result<()> {
        let name = match in_status(seen.text) {
            Some(name) => name.to_vec(),
            None => read(seen)?,
        };
        let (text, exact) = to_image(&name);
        thread.entry.comm = Some(text);
        thread.extras.comm = exact;
        Ok(())
    }

    /// The process has the name of its leader.
    fn settle(&self, _: &FrozenTask, draft: &mut Draft, _: &mut Snapshot) -> Result<()> {
        draft.entry.comm = draft.threads[0].entry.comm().to_owned();
        Ok(())
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[(Phase::Registrations, Step::Threads(rebuild))]
    }
}

fn read(seen: &Seen<'_>) -> Result<Vec<u8>> {
    let path = format!("/proc/{}/task/{}/comm", seen.pid, seen.frozen.tid);
    let file = proc::contents(&path).doing(|| format!("read {path}"))?;
    Ok(parse(&file).to_vec())
}

/// The name for the message, and for the extras if the message cannot hold it.
pub fn to_image(name: &[u8]) -> (String, Option<Vec<u8>>) {
    match std::str::from_utf8(name) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (String::from_utf8_lossy(name).into_owned(), Some(name.to_vec())),
    }
}

/// The name from `/proc/PID/comm` or `/proc/PID/task/TID/comm`.
fn parse(file: &[u8]) -> &[u8] {
    file.strip_suffix(b"\n").unwrap_or(file)
}

/// The name as `/proc/PID/task/TID/status` begins with it, which spares a look at another file;
/// none if something in it is escaped there.
fn in_status(file: &[u8]) -> Option<&[u8]> {
    let name = file.strip_prefix(b"Name:\t")?.split(|byte| *byte == b'\n').next()?;
    (!name.contains(&b'\\')).then_some(name)
}

fn rebuild(process: &Rebuild<'_>, thread: &RecordedThread<'_>, batch: &mut Batch) {
    let name = thread.entry.comm.as_deref().unwrap_or(&process.task.entry.comm);
    set(batch, name, thread.extras.and_then(|extras| extras.comm.as_deref()));
}

/// Names the thread that runs the batch.
fn set(batch: &mut Batch, comm: &str, exact: Option<&[u8]>) {
    let mut name = [0u8; SIZE];
    let bytes = exact.unwrap_or(comm.as_bytes());
    let len = bytes.len().min(SIZE - 1);
    name[..len].copy_from_slice(&bytes[..len]);
    let place = batch.bytes(&name);
    batch.must(format!("set the name {comm:?}"), libc::SYS_prctl, args![libc::PR_SET_NAME, place]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::remote::RemoteAddr;
    use crate::tracee::batch::ENTRY_SIZE;

    #[test]
    fn a_plain_name_is_taken_from_the_status() {
        assert_eq!(in_status(b"Name:\todd (a) \xff\nUmask:\t0022\n"), Some(&b"odd (a) \xff"[..]));
        assert_eq!(in_status(b"Name:\t\nUmask:\t0022\n"), Some(&b""[..]));
        assert_eq!(in_status(b"Name:\ta\\nb\n"), None);
        assert_eq!(in_status(b"Umask:\t0022\n"), None);
    }

    #[test]
    fn names_go_to_an_image_and_back() {
        for name in [&b"odd (leader)"[..], b"", b"a\nb", b"\xff\xfe"] {
            let file = [name, b"\n"].concat();
            let (comm, exact) = to_image(parse(&file));
            let mut batch = Batch::new();
            set(&mut batch, &comm, exact.as_deref());
            let image = batch.encode(RemoteAddr(0));
            let mut want = [0u8; SIZE];
            want[..name.len()].copy_from_slice(name);
            assert_eq!(image[ENTRY_SIZE..], want);
        }
    }
}
