//! Which program the worker is.
//!
//! Without any set-up it is found in this order:
//!
//! 1. the `criu` that was installed with the shared library: `../sbin/criu` seen from it;
//! 2. the shared library itself, run by the dynamic linker (see [`super::entry`]);
//! 3. if the library is linked into the program: the program itself, with [`MARK`] in its
//!    environment, by which the library takes over before `main()`.

use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int, c_void};
use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::entry;

/// The variable that makes a program with the library inside it a worker; its value is the number
/// of the socket.
pub const MARK: &CStr = c"LIBCRIU_WORKER_FD";

/// Variables that change how the host is linked or its memory managed, not how the worker works.
const HOST_ONLY: [&[u8]; 4] = [b"LD_PRELOAD", b"LD_AUDIT", b"LD_DEBUG", b"LD_PROFILE"];

/// A program and how it is started.
#[derive(Debug)]
pub struct Program {
    pub path: CString,
    /// What comes before `swrk FD`.
    argv: Vec<CString>,
    /// Whether it is this library's own worker.
    own: bool,
    marked: bool,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.argv.last().unwrap_or(&self.path).to_string_lossy())
    }
}

impl Program {
    /// The worker that needs no set-up.
    pub fn own() -> Result<Program, String> {
        if in_main_program() {
            return Self::this_program();
        }
        let library = library_path().ok_or("cannot tell where this library was loaded from")?;
        Ok(Self::installed_beside(&library).unwrap_or_else(|| Self::library_itself(&library)))
    }

    /// The program of the caller's choice, searched in PATH if its name has no slash.
    pub fn named(name: &CStr) -> Result<Program, String> {
        let given = Path::new(OsStr::from_bytes(name.to_bytes()));
        let path = match name.to_bytes().contains(&b'/') {
            true => given.to_path_buf(),
            false => search_path(given)
                .ok_or_else(|| format!("the worker {} is not in PATH", given.display()))?,
        };
        Ok(Self { path: c_string(path), argv: vec![name.to_owned()], own: false, marked: false })
    }

    fn this_program() -> Result<Program, String> {
        // It would not listen to the mark, and run its main() instead.
        if entry::is_raised() {
            return Err("a program raised in privilege cannot be its own worker; \
                        name one with criu_set_service_binary()"
                .to_owned());
        }
        // A static link keeps only what is referred to.
        entry::keep_constructor();
        let argv = vec![c"criu".to_owned()];
        Ok(Self { path: c"/proc/self/exe".to_owned(), argv, own: true, marked: true })
    }

    fn installed_beside(library: &Path) -> Option<Program> {
        let installed = library.parent()?.parent()?.join("sbin/criu");
        is_executable(&installed).then(|| {
            let path = c_string(installed);
            Self { argv: vec![path.clone()], path, own: true, marked: false }
        })
    }

    /// The dynamic linker runs the library: a library file is often not executable by itself.
    fn library_itself(library: &Path) -> Program {
        let linker = dynamic_linker();
        let argv = vec![linker.clone(), c_string(library.to_path_buf())];
        Self { path: linker, argv, own: true, marked: false }
    }

    /// All arguments.
    pub fn arguments(&self, socket: RawFd) -> Vec<CString> {
        let mut argv = self.argv.clone();
        argv.extend([c"swrk".to_owned(), number(socket)]);
        argv
    }

    /// The environment, if it is not simply the host's.
    pub fn environment(&self, socket: RawFd) -> Option<Vec<CString>> {
        if !self.own {
            return None;
        }
        // A mark that the host itself was started with would hide the one that is meant.
        let unwanted = |name: &[u8]| HOST_ONLY.contains(&name) || name == MARK.to_bytes();
        let wanted = |(name, _): &(OsString, OsString)| !unwanted(name.as_bytes());
        let mut variables: Vec<CString> =
            std::env::vars_os().filter(wanted).map(|(name, value)| assign(&name, &value)).collect();
        if self.marked {
            let name = OsStr::from_bytes(MARK.to_bytes());
            variables.push(assign(name, OsStr::from_bytes(number(socket).to_bytes())));
        }
        Some(variables)
    }
}

fn number(fd: RawFd) -> CString {
    CString::new(fd.to_string()).unwrap_or_default()
}

fn assign(name: &OsStr, value: &OsStr) -> CString {
    CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).unwrap_or_default()
}

/// The paths here come from C strings or from the kernel: they hold no zero byte.
fn c_string(path: PathBuf) -> CString {
    CString::new(path.into_os_string().into_vec()).unwrap_or_default()
}

fn is_executable(path: &Path) -> bool {
    let path = c_string(path.to_path_buf());
    // SAFETY: a C string.
    unsafe { libc::access(path.as_ptr(), libc::X_OK) == 0 }
}

fn search_path(name: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| is_executable(file))
}

/// An address in this library's code.
fn here() -> usize {
    in_main_program as *const () as usize
}

/// Whether this code is part of the program that was executed, not of a shared library.
pub fn in_main_program() -> bool {
    extern "C" fn first(info: *mut libc::dl_phdr_info, _: usize, inside: *mut c_void) -> c_int {
        // SAFETY: the C library passes a valid entry with its headers; the first is the program's.
        // `inside` is the bool below.
        unsafe {
            let info = &*info;
            let count = usize::from(info.dlpi_phnum);
            let headers = std::slice::from_raw_parts(info.dlpi_phdr, count);
            let base = info.dlpi_addr as usize;
            *inside.cast::<bool>() = headers.iter().any(|header| {
                let start = base.wrapping_add(header.p_vaddr as usize);
                let end = start.wrapping_add(header.p_memsz as usize);
                header.p_type == libc::PT_LOAD && (start..end).contains(&here())
            });
        }
        1
    }
    let mut inside = false;
    // SAFETY: the callback matches, and `inside` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut inside).cast()) };
    inside
}

/// The file that an address was loaded from, as the dynamic linker names it.
fn loaded_from(address: usize) -> Option<CString> {
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: dladdr() takes any address and fills the struct if it returns non-zero; the name is a
    // C string that lives as long as the file is loaded.
    unsafe {
        if libc::dladdr(address as *const c_void, info.as_mut_ptr()) == 0 {
            return None;
        }
        let name: *const c_char = info.assume_init().dli_fname;
        (!name.is_null()).then(|| CStr::from_ptr(name).to_owned())
    }
}

/// Where this library is. A name relative to a working directory of the past is no help: then the
/// kernel is asked.
fn library_path() -> Option<PathBuf> {
    let name = loaded_from(here())?;
    let path = PathBuf::from(OsStr::from_bytes(name.to_bytes()));
    match path.is_absolute() {
        true => Some(path),
        false => mapped_file(here()),
    }
}

/// The file that is mapped at an address.
fn mapped_file(address: usize) -> Option<PathBuf> {
    let maps = std::fs::read("/proc/self/maps").ok()?;
    let line = maps.split(|byte| *byte == b'\n').find(|line| {
        let text = String::from_utf8_lossy(line);
        let range = text.split(' ').next().and_then(|range| range.split_once('-'));
        range.is_some_and(|(start, end)| {
            let parse = |text| usize::from_str_radix(text, 16).unwrap_or(0);
            (parse(start)..parse(end)).contains(&address)
        })
    })?;
    let slash = line.iter().position(|byte| *byte == b'/')?;
    Some(PathBuf::from(OsStr::from_bytes(&line[slash..])))
}

/// The dynamic linker of this process; the usual one if the host was started in an unusual way.
fn dynamic_linker() -> CString {
    // SAFETY: no memory is involved.
    let base = unsafe { libc::getauxval(libc::AT_BASE) };
    let found = if base == 0 { None } else { loaded_from(base as usize) };
    found.filter(|name| name.to_bytes().starts_with(b"/")).unwrap_or_else(|| USUAL_LINKER.into())
}

#[cfg(target_arch = "x86_64")]
const USUAL_LINKER: &CStr = c"/lib64/ld-linux-x86-64.so.2";
