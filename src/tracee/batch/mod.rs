//! Batches of system calls to be run by another process.
//!
//! A stub of a few dozen bytes in the tracee walks an array of `{number, six arguments, result}`
//! entries. [`Batch`] builds that array together with the data that its pointers refer to, and
//! [`Outcome`] reads the results back. [`dumpee`](super::dumpee) and [`blank`](super::blank) bring
//! batches to their tracees.

mod parts;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::kernel::remote::{RemoteAddr, RemoteFd};

pub use self::parts::Parts;

/// A place in a batch's data area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRef {
    offset: usize,
    len: usize,
}

impl DataRef {
    /// The place `by` bytes further on.
    #[must_use]
    pub fn skip(self, by: usize) -> Self {
        assert!(by <= self.len, "a place in the data area stays inside it");
        Self { offset: self.offset + by, len: self.len - by }
    }
}

/// An argument of a remote system call.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    /// A plain value.
    Value(u64),
    /// The remote address of a place in the data area.
    Data(DataRef),
}

impl From<u64> for Arg {
    fn from(value: u64) -> Self {
        Self::Value(value)
    }
}
impl From<i64> for Arg {
    fn from(value: i64) -> Self {
        Self::Value(value.cast_unsigned())
    }
}
impl From<u32> for Arg {
    fn from(value: u32) -> Self {
        Self::Value(value.into())
    }
}
impl From<i32> for Arg {
    fn from(value: i32) -> Self {
        Self::from(i64::from(value))
    }
}
impl From<usize> for Arg {
    fn from(value: usize) -> Self {
        Self::Value(value as u64)
    }
}
impl From<DataRef> for Arg {
    fn from(place: DataRef) -> Self {
        Self::Data(place)
    }
}
impl From<RemoteAddr> for Arg {
    fn from(addr: RemoteAddr) -> Self {
        Self::Value(addr.0)
    }
}
impl From<RemoteFd> for Arg {
    fn from(fd: RemoteFd) -> Self {
        Self::from(fd.0)
    }
}

/// Converts its operands into `[Arg; 6]`, the rest zero: `args![fd, path, flags]`.
#[macro_export]
macro_rules! args {
    ($($value:expr),* $(,)?) => {
        $crate::tracee::batch::six(&[$($crate::tracee::batch::Arg::from($value)),*])
    };
}

/// Pads up to six arguments with zeros; used by [`args!`](crate::args).
pub fn six(given: &[Arg]) -> [Arg; 6] {
    let mut all = [Arg::Value(0); 6];
    all[..given.len()].copy_from_slice(given);
    all
}

/// Which call of a batch; see [`Outcome::ret`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallId(usize);

#[derive(Clone, Debug)]
struct Call {
    nr: libc::c_long,
    args: [Arg; 6],
    /// What the call does, for the message, if its failure fails the whole batch.
    must: Option<String>,
}

/// System calls for another process to run in order, with the data they point to.
///
/// Every call is made, also after a call that failed.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    calls: Vec<Call>,
    data: Vec<u8>,
    /// What was added to the data at once each time.
    pieces: Vec<DataRef>,
    /// Pointers within the data: where each stands and what it points to.
    pointers: Vec<(DataRef, DataRef)>,
}

/// Bytes of one entry as the stubs see it: number, six arguments, result.
pub const ENTRY_SIZE: usize = 64;
/// Offset of the result within an entry.
pub const ENTRY_RET: usize = 56;
const DATA_ALIGN: usize = 64;

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a call whose result the caller looks at with [`Outcome::ret`].
    pub fn call(&mut self, nr: libc::c_long, args: [Arg; 6]) -> CallId {
        self.calls.push(Call { nr, args, must: None });
        CallId(self.calls.len() - 1)
    }

    /// Adds a call that has to succeed; `what` says what it does: `mmap 7f00-7f10`.
    pub fn must(&mut self, what: impl Into<String>, nr: libc::c_long, args: [Arg; 6]) -> CallId {
        self.calls.push(Call { nr, args, must: Some(what.into()) });
        CallId(self.calls.len() - 1)
    }

    /// Adds bytes for calls to read, aligned to 64.
    pub fn bytes(&mut self, bytes: &[u8]) -> DataRef {
        let place = self.space(bytes.len());
        self.data[place.offset..][..bytes.len()].copy_from_slice(bytes);
        place
    }

    /// Adds a NUL-terminated string.
    pub fn cstr(&mut self, text: impl AsRef<std::ffi::OsStr>) -> DataRef {
        use std::os::unix::ffi::OsStrExt;
        let mut bytes = text.as_ref().as_bytes().to_vec();
        bytes.push(0);
        self.bytes(&bytes)
    }

    /// Adds `len` zero bytes for calls to write into, aligned to 64.
    pub fn space(&mut self, len: usize) -> DataRef {
        let offset = self.data.len().next_multiple_of(DATA_ALIGN);
        self.data.resize(offset + len, 0);
        let place = DataRef { offset, len };
        self.pieces.push(place);
        place
    }

    fn at(&self, place: DataRef) -> &[u8] {
        &self.data[place.offset..][..place.len]
    }

    /// Index of the piece of data that a place is in.
    fn piece_of(&self, place: DataRef) -> usize {
        self.pieces.partition_point(|piece| piece.offset <= place.offset) - 1
    }

    /// Makes the eight bytes at `at` a pointer to `to`, as `iovec` and `msghdr` hold them.
    pub fn point(&mut self, at: DataRef, to: DataRef) {
        assert!(at.len >= 8, "a pointer takes eight bytes");
        self.pointers.push((at, to));
    }

    /// How many calls there are.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Bytes that the encoded batch takes in the tracee.
    pub fn encoded_len(&self) -> usize {
        self.data_start() + self.data.len()
    }

    fn data_start(&self) -> usize {
        self.calls.len() * ENTRY_SIZE
    }

    /// The entries followed by the data, as they must stand at `base` (64-aligned) in the tracee.
    pub fn encode(&self, base: RemoteAddr) -> Vec<u8> {
        let mut image = Vec::with_capacity(self.encoded_len());
        for call in &self.calls {
            image.extend_from_slice(&call.nr.to_le_bytes());
            for arg in call.args {
                image.extend_from_slice(&self.resolve(arg, base).to_le_bytes());
            }
            image.extend_from_slice(&0u64.to_le_bytes());
        }
        image.extend_from_slice(&self.data);
        for (at, to) in &self.pointers {
            let value = self.resolve(Arg::Data(*to), base);
            image[self.data_start() + at.offset..][..8].copy_from_slice(&value.to_le_bytes());
        }
        image
    }

    fn resolve(&self, arg: Arg, base: RemoteAddr) -> u64 {
        match arg {
            Arg::Value(value) => value,
            Arg::Data(place) => base.0 + (self.data_start() + place.offset) as u64,
        }
    }

    /// Reads the results back from `image`, the encoded batch after it ran.
    ///
    /// Fails with the first failed [`must`](Self::must) call.
    pub fn outcome(self, image: &[u8]) -> Result<Outcome> {
        let rets: Vec<i64> = (0..self.calls.len())
            .map(|index| {
                let at = index * ENTRY_SIZE + ENTRY_RET;
                i64::from_le_bytes(image[at..at + 8].try_into().expect("eight bytes"))
            })
            .collect();
        let outcome = Outcome { data: image[self.data_start()..].to_vec(), rets };
        for (index, call) in self.calls.iter().enumerate() {
            if let (Some(what), Err(errno)) = (&call.must, outcome.ret(CallId(index))) {
                return Err(Error::sys(what, errno));
            }
        }
        Ok(outcome)
    }
}

/// What the calls of a batch returned and wrote.
#[derive(Clone, Debug)]
pub struct Outcome {
    rets: Vec<i64>,
    data: Vec<u8>,
}

impl Outcome {
    /// The result of one call.
    pub fn ret(&self, id: CallId) -> std::result::Result<i64, Errno> {
        match self.rets[id.0] {
            ret @ -4095..=-1 => Err(Errno::from_raw(i32::try_from(-ret).expect("an errno"))),
            ret => Ok(ret),
        }
    }

    /// What stands at `place` now.
    pub fn bytes(&self, place: DataRef) -> &[u8] {
        &self.data[place.offset..][..place.len]
    }

    /// A little-endian u32 at `place`.
    pub fn u32(&self, place: DataRef) -> u32 {
        u32::from_le_bytes(self.bytes(place)[..4].try_into().expect("four bytes"))
    }

    /// A little-endian u64 at `place`.
    pub fn u64(&self, place: DataRef) -> u64 {
        u64::from_le_bytes(self.bytes(place)[..8].try_into().expect("eight bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_entries_then_data() {
        let mut batch = Batch::new();
        let path = batch.cstr("/x");
        batch.call(libc::SYS_openat, args![-100, path, 0]);
        let image = batch.encode(RemoteAddr(0x1000));
        assert_eq!(image.len(), ENTRY_SIZE + 3);
        assert_eq!(&image[16..24], &0x1040u64.to_le_bytes());
        assert_eq!(&image[64..], b"/x\0");
    }

    #[test]
    fn pointers_in_the_data_are_resolved() {
        let mut batch = Batch::new();
        let target = batch.bytes(b"target");
        let holder = batch.space(16);
        batch.point(holder.skip(8), target);
        batch.call(libc::SYS_read, args![0, holder]);
        let image = batch.encode(RemoteAddr(0x1000));
        assert_eq!(&image[ENTRY_SIZE + 64 + 8..], &0x1040u64.to_le_bytes());
    }

    #[test]
    fn a_failed_must_call_fails_the_batch_by_name() {
        let mut batch = Batch::new();
        batch.must("chdir /gone", libc::SYS_chdir, args![0]);
        let mut image = batch.encode(RemoteAddr(0));
        image[ENTRY_RET..].copy_from_slice(&(-2i64).to_le_bytes());
        let text = batch.outcome(&image).unwrap_err().to_string();
        assert_eq!(text, "chdir /gone: No such file or directory (ENOENT)");
    }
}
