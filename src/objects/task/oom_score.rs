//! How likely the kernel is to pick a process when memory runs out.

use std::fs;

use crate::error::{Context, Error, Result};
use crate::kernel::proc;

/// Reads the adjustment of a process.
pub fn capture(pid: i32) -> Result<i32> {
    let path = path(pid);
    let text = proc::text(&path).doing(|| format!("read {path}"))?;
    text.trim().parse().map_err(|_| Error::image(&path, format!("{text:?} is no number")))
}

/// Checks the range.
pub fn validate(file: &str, adjustment: i32) -> Result<()> {
    match adjustment {
        -1000..=1000 => Ok(()),
        _ => Err(Error::image(file, format!("oom_score_adj {adjustment}"))),
    }
}

/// Sets the adjustment, unless it is already so.
pub fn rebuild(pid: i32, adjustment: i32) -> Result<()> {
    if capture(pid)? == adjustment {
        return Ok(());
    }
    let path = path(pid);
    fs::write(&path, adjustment.to_string())
        .doing(|| format!("write {adjustment} to {path}"))
        .map_err(|error| {
            error.remedy("restore with CAP_SYS_RESOURCE or with an oom_score_adj as low")
        })
}

fn path(pid: i32) -> String {
    format!("/proc/{pid}/oom_score_adj")
}
