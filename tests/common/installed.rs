//! Programs that may be absent.

use std::path::{Path, PathBuf};

use criu_test_support::{Lack, needs};

/// Where a program is; a test without it is left out.
pub fn installed(program: &str) -> Option<PathBuf> {
    // Not a version manager's wrapper script, which would be what is dumped.
    let places = ["/usr/bin", "/bin", "/usr/local/bin"];
    let found =
        places.map(|dir| Path::new(dir).join(program)).into_iter().find(|path| path.exists());
    needs(found.ok_or_else(|| Lack::OfSetUp(format!("{program} is not installed"))))
}
