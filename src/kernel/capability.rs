//! Capabilities of the calling thread, and the call that sets them.

use nix::errno::Errno;

use super::Sys;

pub const SETGID: u32 = 6;
pub const SETUID: u32 = 7;
pub const SETPCAP: u32 = 8;
pub const SYS_ADMIN: u32 = 21;
pub const SYS_RESOURCE: u32 = 24;
pub const CHECKPOINT_RESTORE: u32 = 40;

pub const PR_CAP_AMBIENT: i32 = 47;
pub const PR_CAP_AMBIENT_RAISE: i32 = 2;
pub const PR_CAP_AMBIENT_CLEAR_ALL: i32 = 4;

/// Version 3 of the calls: two words per set.
const VERSION: u32 = 0x2008_0522;

/// A set with one capability.
pub const fn only(number: u32) -> u64 {
    1 << number
}

/// The capabilities of a set.
pub fn members(set: u64) -> impl Iterator<Item = u32> {
    (0..u64::BITS).filter(move |number| set & only(*number) != 0)
}

/// What `capset` takes: a header, and a word of each set for the low half and for the high one.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Request {
    pub header: [u32; 2],
    pub halves: [[u32; 3]; 2],
}

impl Request {
    /// Sets all three sets of the calling thread.
    pub fn new(effective: u64, permitted: u64, inheritable: u64) -> Self {
        let sets = [effective, permitted, inheritable];
        let half = |shift: u32| sets.map(|set| (set >> shift) as u32);
        Self { header: [VERSION, 0], halves: [half(0), half(32)] }
    }

    /// Header and data, for a batch.
    pub fn to_bytes(&self) -> (Vec<u8>, Vec<u8>) {
        let bytes = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
        (bytes(&self.header), bytes(self.halves.as_flattened()))
    }
}

/// Gives up every permitted capability that is not in `kept`, and the inheritable ones.
pub fn keep(kept: u64) -> Sys<()> {
    let request = Request::new(kept, kept, 0);
    let (header, data) = (request.header.as_ptr(), request.halves.as_ptr());
    // SAFETY: the kernel reads the header and two halves, as this version of the call says.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, header, data) }).map(drop)
}

/// The permitted capabilities of the calling thread.
pub fn permitted() -> Sys<u64> {
    let mut request = Request::new(0, 0, 0);
    let (header, data) = (request.header.as_mut_ptr(), request.halves.as_mut_ptr());
    // SAFETY: the kernel writes at most the header and two halves.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, header, data) })?;
    let [low, high] = request.halves.map(|[_, permitted, _]| u64::from(permitted));
    Ok(high << 32 | low)
}

/// The securebits of the calling thread.
pub fn securebits() -> Sys<u32> {
    // SAFETY: takes numbers only.
    let bits = unsafe { libc::prctl(libc::PR_GET_SECUREBITS, 0, 0, 0, 0) };
    Errno::result(bits).map(i32::cast_unsigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_become_words_and_are_read_back() {
        let (header, data) = Request::new(1 << 40, 3, 1 << 33).to_bytes();
        assert_eq!(header, [0x22, 5, 8, 0x20, 0, 0, 0, 0]);
        let words: Vec<u8> = data.iter().step_by(4).copied().collect();
        assert_eq!(words, [0, 3, 0, 0, 0, 2]);
        assert_eq!(data[13], 1, "the effective word of the high half");
        assert_eq!(members(1 << 40 | 5).collect::<Vec<_>>(), [0, 2, 40]);
    }

    #[test]
    fn what_is_given_up_is_gone() {
        let gone = std::thread::spawn(|| {
            let before = permitted().unwrap();
            keep(only(CHECKPOINT_RESTORE)).unwrap();
            (before, permitted().unwrap())
        });
        let (before, after) = gone.join().unwrap();
        assert_ne!(before & only(CHECKPOINT_RESTORE), 0);
        assert_eq!(after, only(CHECKPOINT_RESTORE));
    }
}
