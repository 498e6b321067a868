//! Unread data of pseudo terminals: what a read of the slave would give, and what a read of the
//! master would give.
//!
//! The data cannot be had but by reading, which takes it out of the terminal. So it is put back at
//! once; meanwhile the terminal processes nothing, so that nothing is echoed or translated twice. A
//! terminal from which nothing can be read is left alone. The kernel does not show a line that has
//! been typed but not finished, so that such a line is carried only if there are finished lines
//! too.

use std::os::fd::OwnedFd;

use crate::error::{Context, Error, Kind, Result};
use crate::images::proto::TtyDataEntry;
use crate::kernel::tty::{self, Termios};

/// The size of a read, which is more than a terminal queues.
const LONGEST: usize = 1 << 16;
const MOST_WAITS: u32 = 200;
const WAIT: std::time::Duration = std::time::Duration::from_micros(500);
const VTIME: usize = 5;
const VMIN: usize = 6;

/// What has not been read from a terminal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unread {
    pub master: Vec<u8>,
    /// The finished lines one by one, and an unfinished one; everything as one if there are no
    /// lines.
    pub slave: Vec<Vec<u8>>,
}

impl Unread {
    /// The image's entries for the terminal whose slave side has the id `slave`.
    pub(super) fn entries(self, slave: u32) -> Vec<TtyDataEntry> {
        let entries = [(slave, self.slave.concat()), (slave + 1, self.master)];
        entries
            .into_iter()
            .filter(|(_, data)| !data.is_empty())
            .map(|(tty_id, data)| TtyDataEntry { tty_id, data })
            .collect()
    }
}

/// Reads what is unread, and puts it back.
pub(super) fn take(master: &OwnedFd, slave: &OwnedFd) -> Result<Unread> {
    let what = || "read what is unread";
    if tty::readable(master).doing(what)? == 0 && tty::readable(slave).doing(what)? == 0 {
        return Ok(Unread::default());
    }
    let quiet = Quiet::begin(slave).doing(what)?;
    let mut unread = Unread { master: drain_master(master)?, slave: drain(slave)? };
    if quiet.is_canonical() {
        // All finished lines have been read; what is left is the line that is not finished.
        quiet.raw(true).doing(what)?;
        let rest = drain(slave)?.concat();
        quiet.raw(false).doing(what)?;
        unread.slave.extend((!rest.is_empty()).then_some(rest));
    }
    put(master, slave, &unread)?;
    quiet.end().doing(what)?;
    Ok(unread)
}

/// Puts unread data of the image into a new terminal.
pub(super) fn restore(master: &OwnedFd, slave: &OwnedFd, unread: &Unread) -> Result<()> {
    if *unread == Unread::default() {
        return Ok(());
    }
    let quiet = Quiet::begin(slave).doing(|| "put unread data back")?;
    put(master, slave, unread)?;
    quiet.end().doing(|| "put unread data back")
}

fn put(master: &OwnedFd, slave: &OwnedFd, unread: &Unread) -> Result<()> {
    let mut arrived = 0;
    for piece in with_rest(&unread.slave) {
        write_all(master, &piece)?;
        let line = piece.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        arrived += line;
        await_input(slave, arrived)?;
    }
    write_all(slave, &unread.master)
}

/// The lines as they are written: an unfinished line together with the line before it.
fn with_rest(lines: &[Vec<u8>]) -> Vec<Vec<u8>> {
    match lines {
        [before @ .., line, rest] if !rest.ends_with(b"\n") => {
            let mut all = before.to_vec();
            all.push([line.as_slice(), rest].concat());
            all
        }
        _ => lines.to_vec(),
    }
}

/// Waits until the slave has `len` bytes of input. The kernel processes input some time after the
/// write, and has to do so before the processing is switched on again. It lets no settings change
/// while it processes a piece, so that the rest of a piece behind its last line need not be waited
/// for.
fn await_input(slave: &OwnedFd, len: usize) -> Result<()> {
    for _ in 0..MOST_WAITS {
        let readable = tty::readable(slave).doing(|| "wait for a terminal")?;
        if usize::try_from(readable).is_ok_and(|readable| readable >= len) {
            break;
        }
        std::thread::sleep(WAIT);
    }
    Ok(())
}

fn write_all(side: &OwnedFd, mut data: &[u8]) -> Result<()> {
    while !data.is_empty() {
        match nix::unistd::write(side, data).doing(|| "put unread data of a terminal back")? {
            0 => {
                let cause = format!("{} bytes of unread data do not fit", data.len());
                return Err(Error::new(Kind::System, cause));
            }
            done => data = &data[done..],
        }
    }
    Ok(())
}

/// Reads as long as a read would not wait. Each read of a slave gives a line.
fn drain(side: &OwnedFd) -> Result<Vec<Vec<u8>>> {
    let what = || "read what is unread";
    let mut pieces = Vec::new();
    while tty::readable(side).doing(what)? > 0 {
        let mut piece = vec![0u8; LONGEST];
        let len = nix::unistd::read(side, &mut piece).doing(what)?;
        if len == 0 {
            break;
        }
        piece.truncate(len);
        pieces.push(piece);
    }
    Ok(pieces)
}

/// Reads all from a master. In packet mode each read begins with a byte, which is 0 for data and
/// else a status, behind which nothing follows.
fn drain_master(master: &OwnedFd) -> Result<Vec<u8>> {
    let packets = tty::is_packet_mode(master).doing(|| "ask for packet mode")?;
    let pieces = drain(master)?;
    if !packets {
        return Ok(pieces.concat());
    }
    let data = pieces.iter().filter(|piece| piece[0] == 0).map(|piece| &piece[1..]);
    Ok(data.collect::<Vec<_>>().concat())
}

/// A terminal that processes nothing until this is dropped.
struct Quiet<'t> {
    slave: &'t OwnedFd,
    before: Termios,
}

impl<'t> Quiet<'t> {
    fn begin(slave: &'t OwnedFd) -> nix::Result<Self> {
        let quiet = Self { slave, before: tty::termios(slave)? };
        quiet.raw(false)?;
        Ok(quiet)
    }

    fn is_canonical(&self) -> bool {
        self.before.lflag & libc::ICANON != 0
    }

    /// Switches the processing off; the canonical mode, too, if `all`. That joins the lines which
    /// have not been read, so that there may be none then.
    fn raw(&self, all: bool) -> nix::Result<()> {
        let lflag = if all { 0 } else { self.before.lflag & libc::ICANON };
        let mut cc = [0u8; 19];
        cc[VMIN] = if all { 0 } else { self.before.cc[VMIN] };
        cc[VTIME] = 0;
        let quiet = Termios { iflag: 0, oflag: 0, lflag, cc, ..self.before };
        tty::set_termios(self.slave, &quiet)
    }

    fn end(self) -> nix::Result<()> {
        tty::set_termios(self.slave, &self.before)
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = tty::set_termios(self.slave, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{pty, terminals};
    use super::*;

    fn read_once(side: &OwnedFd) -> Vec<u8> {
        let mut data = [0u8; 256];
        let len = nix::unistd::read(side, &mut data).unwrap();
        data[..len].to_vec()
    }

    #[test]
    fn lines_and_output_are_read_and_stay() {
        let _alone = terminals();
        let (master, slave) = pty();
        write_all(&master, b"one\ntwo\nthr").unwrap();
        assert_eq!(tty::readable(&slave), Ok(8), "the unfinished line is not shown");
        write_all(&slave, b"out\n").unwrap();
        let before = tty::termios(&slave).unwrap();
        let unread = take(&master, &slave).unwrap();
        assert_eq!(unread.slave, [b"one\n".to_vec(), b"two\n".to_vec(), b"thr".to_vec()]);
        let echoed = b"one\r\ntwo\r\nthrout\r\n";
        assert_eq!(unread.master, echoed);
        assert_eq!(tty::termios(&slave).unwrap(), before);
        assert_eq!(
            tty::readable(&master).unwrap() as usize,
            echoed.len(),
            "nothing more is echoed"
        );
        write_all(&master, b"ee\n").unwrap();
        assert_eq!(read_once(&slave), b"one\n");
        assert_eq!(read_once(&slave), b"two\n");
        assert_eq!(read_once(&slave), b"three\n");
    }

    #[test]
    fn packet_mode_keeps_the_data() {
        let _alone = terminals();
        let (master, slave) = pty();
        tty::set_packet_mode(&master, true).unwrap();
        write_all(&slave, b"data").unwrap();
        assert_eq!(take(&master, &slave).unwrap().master, b"data");
        assert_eq!(drain_master(&master).unwrap(), b"data");
    }

    #[test]
    fn an_idle_terminal_has_nothing() {
        let _alone = terminals();
        let (master, slave) = pty();
        let unread = take(&master, &slave).unwrap();
        assert!(unread.entries(0).is_empty());
    }
}
