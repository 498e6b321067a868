//! userfaultfd as a way to fill the memory of another process: `UFFDIO_COPY` puts a page into
//! place without zeroing it first, which makes it the fastest way to fill fresh anonymous memory.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;

use crate::error::{Context, Error, Result};

const UFFD_API: u64 = 0xaa;
const REGISTER_MODE_MISSING: u64 = 1;

#[repr(C)]
pub struct ApiArg {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
pub struct RegisterArg {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
pub struct CopyArg {
    dst: u64,
    src: u64,
    len: u64,
    mode: u64,
    copy: i64,
}

nix::ioctl_readwrite!(uffdio_api, UFFD_API, 0x3f, ApiArg);
nix::ioctl_readwrite!(uffdio_register, UFFD_API, 0x00, RegisterArg);
nix::ioctl_readwrite!(uffdio_copy, UFFD_API, 0x03, CopyArg);

/// A userfaultfd of another process, held by us alone.
///
/// Dropping it unregisters everything.
#[derive(Debug)]
pub struct Uffd {
    fd: OwnedFd,
}

impl Uffd {
    /// Takes over a fresh userfaultfd that another process created.
    pub fn adopt(fd: OwnedFd) -> Result<Self> {
        let mut arg = ApiArg { api: UFFD_API, features: 0, ioctls: 0 };
        // SAFETY: `arg` is a whole uffdio_api.
        unsafe { uffdio_api(fd.as_raw_fd(), &raw mut arg) }.doing(|| "UFFDIO_API")?;
        Ok(Self { fd })
    }

    /// Says that missing pages of this range of the other process are ours to fill.
    pub fn register(&self, start: u64, len: u64) -> Result<()> {
        let mut arg = RegisterArg { start, len, mode: REGISTER_MODE_MISSING, ioctls: 0 };
        // SAFETY: `arg` is a whole uffdio_register; the range is the other process's.
        unsafe { uffdio_register(self.fd.as_raw_fd(), &raw mut arg) }
            .doing(|| format!("UFFDIO_REGISTER {start:x}-{:x}", start + len))?;
        Ok(())
    }

    /// Puts whole pages to `dst` in the other process.
    pub fn copy(&self, dst: u64, bytes: &[u8]) -> Result<()> {
        let (src, len) = (bytes.as_ptr() as u64, bytes.len() as u64);
        let mut done = 0;
        while done < len {
            let mut arg =
                CopyArg { dst: dst + done, src: src + done, len: len - done, mode: 0, copy: 0 };
            // SAFETY: `arg` is a whole uffdio_copy. The kernel reads our memory at `src` as
            // copy_from_user does, so a bad address is an error and not undefined behaviour.
            match unsafe { uffdio_copy(self.fd.as_raw_fd(), &raw mut arg) } {
                Ok(_) => done += arg.copy.cast_unsigned(),
                Err(Errno::EAGAIN) => done += u64::try_from(arg.copy).unwrap_or(0),
                Err(errno) => {
                    return Err(Error::sys(
                        format!("UFFDIO_COPY of {:#x} bytes to {:x}", len - done, dst + done),
                        errno,
                    ));
                }
            }
        }
        Ok(())
    }
}
