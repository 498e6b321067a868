//! The committed manual pages and completions are those that the tables of options give.

use std::path::PathBuf;
use std::process::Command;

use criu::cli::{completion, manual};

const HEADER: &str = include_str!(concat!(env!("OUT_DIR"), "/criu.h"));

fn documents() -> [(&'static str, String); 5] {
    [
        ("criu.8", manual::criu_8()),
        ("libcriu.3", manual::libcriu_3(HEADER)),
        ("completions/criu.bash", completion::bash()),
        ("completions/criu.zsh", completion::zsh()),
        ("completions/criu.fish", completion::fish()),
    ]
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

/// With `CRIU_WRITE_MANUAL` set (`make manual`), they are written instead of compared.
#[test]
fn documents_are_current() {
    for (name, text) in documents() {
        let path = path(name);
        if std::env::var_os("CRIU_WRITE_MANUAL").is_some() {
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("make docs");
            std::fs::write(&path, &text).expect("docs is writable");
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == text, "docs/{name} is out of date; run `make manual`");
    }
}

/// What bash offers for the last of `words`.
fn offered(words: &str) -> Vec<String> {
    let script = format!(
        "source {}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _criu; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        path("completions/criu.bash").display()
    );
    let output = Command::new("bash").args(["--norc", "-c", &script]).output().expect("run bash");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn bash_completes() {
    assert_eq!(offered("criu res"), ["restore"]);
    assert_eq!(offered("criu cpuinfo ''"), ["dump", "check"]);
    assert_eq!(offered("criu dump --leave-r"), ["--leave-running"]);
    assert_eq!(offered("criu dump --no-shell"), ["--no-shell-job"]);
    assert_eq!(offered("criu dump --network-lock n"), ["nftables"]);
    assert_eq!(offered("criu restore --cpu-cap = f"), ["fpu"]);
    assert_eq!(offered("criu check --feature mem_"), ["mem_dirty_track"]);
    assert!(offered("criu dump -t ''").contains(&std::process::id().to_string()));
}
