//! Questions to the worker: its version, and what it can do on this kernel.

use std::ffi::c_int;
use std::ptr;

use super::client::Failure;
use super::settings::{Settings, Target};
use super::spawn::Kinship;
use super::types::{criu_feature_check, criu_opts};
use super::verbs::{ask, request, run};
use crate::images::proto::{CriuFeatures, CriuReqType};

fn version(settings: &Settings) -> Result<c_int, Failure> {
    let request = request(CriuReqType::Version, settings);
    let answer = ask(settings, Kinship::Stranger, &request)?;
    let Some(version) = answer.version else {
        return Err(Failure::bad_answer("does not tell its version"));
    };
    let release = version.major_number * 10000 + version.minor_number * 100;
    // A build from a checkout counts as the next minor version.
    Ok(match version.gitid {
        Some(_) => release + 100,
        None => release + version.sublevel(),
    })
}

fn check_version(settings: &Settings, minimum: c_int) -> Result<c_int, Failure> {
    Ok(c_int::from(minimum <= version(settings)?))
}

/// The worker's version: major * 10000 + minor * 100 + sublevel. Below 0 as `criu_dump()`.
#[unsafe(no_mangle)]
pub extern "C" fn criu_get_version() -> c_int {
    run(Target::Global, |settings| version(&settings))
}

/// `criu_get_version()` with options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_get_version(opts: *mut criu_opts) -> c_int {
    run(Target::Local(opts), |settings| version(&settings))
}

/// 1 if the worker's version is at least `minimum`, 0 if it is older. Below 0 as `criu_dump()`.
#[unsafe(no_mangle)]
pub extern "C" fn criu_check_version(minimum: c_int) -> c_int {
    run(Target::Global, |settings| check_version(&settings, minimum))
}

/// `criu_check_version()` with options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_check_version(opts: *mut criu_opts, minimum: c_int) -> c_int {
    run(Target::Local(opts), |settings| check_version(&settings, minimum))
}

/// Asks about the features that are true, and leaves those true that there are.
///
/// # Safety
/// `features` is NULL or has room for `size` bytes.
unsafe fn feature_check(target: Target, features: *mut criu_feature_check, size: usize) -> c_int {
    if features.is_null() || size > size_of::<criu_feature_check>() {
        let message = "features is NULL or larger than this library knows";
        return run(target, |_| {
            Err(Failure { code: -1, errno: libc::EINVAL, message: message.into() })
        });
    }
    run(target, |settings| {
        let mut asked = criu_feature_check::default();
        // SAFETY: `size` is at most the struct's, and the caller has as much. The bytes are bools.
        unsafe {
            ptr::copy_nonoverlapping(features.cast::<u8>(), (&raw mut asked).cast(), size);
        }
        let wanted = |asked: bool| asked.then_some(true);
        let mut request = request(CriuReqType::FeatureCheck, &settings);
        request.features = Some(CriuFeatures {
            mem_track: wanted(asked.mem_track),
            lazy_pages: wanted(asked.lazy_pages),
            pidfd_store: wanted(asked.pidfd_store),
        });
        let answer = ask(&settings, Kinship::Stranger, &request)?;
        let found = answer.features.unwrap_or_default();
        let there = criu_feature_check {
            mem_track: found.mem_track(),
            lazy_pages: found.lazy_pages(),
            pidfd_store: found.pidfd_store(),
        };
        // SAFETY: as above.
        unsafe {
            ptr::copy_nonoverlapping((&raw const there).cast::<u8>(), features.cast(), size);
        }
        Ok(0)
    })
}

/// Which features there are on this kernel.
///
/// Those that are true in `*features` are asked about; afterwards those are true that there are.
/// `size` is the size of the caller's struct. Returns 0; -1 if `features` is NULL or `size` too
/// large; else as `criu_dump()`.
///
/// # Safety
/// `features` is NULL or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_feature_check(
    features: *mut criu_feature_check,
    size: usize,
) -> c_int {
    // SAFETY: as the caller promised.
    unsafe { feature_check(Target::Global, features, size) }
}

/// `criu_feature_check()` with options of their own.
///
/// # Safety
/// `opts` is NULL or live; `features` is NULL or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_feature_check(
    opts: *mut criu_opts,
    features: *mut criu_feature_check,
    size: usize,
) -> c_int {
    // SAFETY: as the caller promised.
    unsafe { feature_check(Target::Local(opts), features, size) }
}
