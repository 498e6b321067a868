//! The rules of the diagram in the library's root, checked: imports run downwards, and code that is
//! not safe stands in three layers only.

use std::fs;
use std::path::{Path, PathBuf};

/// From the lowest to the highest. A module uses those below it and itself; the modules of one row
/// know nothing of each other, except the first row's.
const ROWS: &[&[&str]] = &[
    &["error", "progress", "version"],
    &["kernel"],
    &["helper", "log"],
    &["images", "tracee"],
    &["objects"],
    &["options"],
    &["engine"],
    &["rpc"],
    &["capi", "cli"],
];
/// Macros stand in the crate's root, wherever they are written.
const MACROS: &[(&str, &str)] = &[("args", "tracee")];
/// Where `unsafe` may occur.
const MAY_BE_UNSAFE: &[&str] = &["kernel", "tracee", "capi"];

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// Whether code of the one module may use the other.
fn may_use(user: &str, used: &str) -> bool {
    let used = MACROS.iter().find(|(name, _)| *name == used).map_or(used, |(_, home)| *home);
    match (row(user), row(used)) {
        (Some(user_row), Some(used_row)) => used_row < user_row || used == user || used_row == 0,
        _ => false,
    }
}

/// The text without its comments and the contents of its strings.
fn code(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['/', '"', '\'']) {
        code.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = match rest.as_bytes() {
            [b'/', b'/', ..] => rest.find('\n'),
            [b'\'', b'"', b'\'', ..] => Some(3),
            [b'\'', b'\\', _, ..] => Some(3),
            [b'"', ..] => end_of_string(&rest[1..]).map(|len| len + 2),
            _ => {
                code.push_str(&rest[..1]);
                Some(1)
            }
        };
        rest = &rest[end.unwrap_or(rest.len())..];
    }
    code + rest
}

fn end_of_string(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.find(|letter| {
        let ends = letter == '"' && !escaped;
        escaped = letter == '\\' && !escaped;
        ends
    })
}

/// The names of the root that the code of a file uses, which stands `depth` modules below the root.
fn used(code: &str, depth: usize) -> Vec<String> {
    let mut used = after(code, "crate::");
    // In a module inside the file the same chain ends one module short of the root: modules of the
    // root are told by their names.
    let by_chain = after(code, &["super::"].repeat(depth).concat());
    used.extend(by_chain.into_iter().filter(|name| row(name).is_some()));
    used
}

fn after(code: &str, start: &str) -> Vec<String> {
    let begins = |at: &usize| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let places = code.match_indices(start).map(|(at, _)| at).filter(begins);
    places.flat_map(|at| heads(&code[at + start.len()..])).collect()
}

/// The first names of a path, or of a list of paths in braces.
fn heads(path: &str) -> Vec<String> {
    let Some(list) = path.strip_prefix('{') else {
        return vec![path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()];
    };
    let (mut heads, mut depth, mut item) = (Vec::new(), 1, 0);
    for (at, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' => {}
            _ => continue,
        }
        if depth == 0 || (depth == 1 && letter == ',') {
            heads.extend(heads_of_item(&list[item..at]));
            item = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

fn heads_of_item(item: &str) -> Vec<String> {
    let item = item.trim();
    if item.is_empty() { Vec::new() } else { heads(item) }
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The module of the root that a file belongs to, how deep the file's own module stands, its code,
/// and its path for messages.
fn files() -> Vec<(String, usize, String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let of = |path: PathBuf| {
        let within = path.strip_prefix(&root).unwrap().with_extension("");
        let mut names: Vec<_> =
            within.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
        names.pop_if(|name| name == "mod");
        let text = fs::read_to_string(&path).unwrap();
        (names[0].clone(), names.len(), code(&text), within)
    };
    let no_layer = |module: &str| ["lib", "layers", "bin"].contains(&module);
    sources(&root).into_iter().map(of).filter(|(module, ..)| !no_layer(module)).collect()
}

#[test]
fn imports_run_downwards() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (module, depth, code, path) in files() {
        assert!(row(&module).is_some(), "{module} stands in no row: give it one");
        for name in used(&code, depth) {
            seen += 1;
            if !may_use(&module, &name) {
                wrong.push(format!("{}.rs ({module}) uses {name}", path.display()));
            }
        }
    }
    assert!(seen > 500, "only {seen} imports were found");
    assert!(wrong.is_empty(), "imports run up:\n{}", wrong.join("\n"));
}

#[test]
fn only_the_layers_next_to_the_kernel_and_the_c_interface_are_unsafe() {
    let word = |code: &str| {
        code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
    };
    let (may, must_not): (Vec<_>, Vec<_>) =
        files().into_iter().partition(|(module, ..)| MAY_BE_UNSAFE.contains(&module.as_str()));
    assert!(may.iter().filter(|(_, _, code, _)| word(code)).count() > 30);
    let wrong: Vec<_> = must_not.iter().filter(|(_, _, code, _)| word(code)).collect();
    assert!(wrong.is_empty(), "unsafe: {:?}", wrong.iter().map(|file| &file.3).collect::<Vec<_>>());
    let root = include_str!("lib.rs");
    for module in ROWS.iter().copied().flatten().filter(|name| !MAY_BE_UNSAFE.contains(name)) {
        let forbidden = format!("#[forbid(unsafe_code)]\npub mod {module};");
        assert!(root.contains(&forbidden), "{module} has no {forbidden:?} in lib.rs");
    }
}

#[test]
fn paths_are_found_in_all_their_forms() {
    let text = r#"
        // crate::comment
        use crate::{alpha::{x, crate_y}, beta, gamma::delta as other};
        fn f() { "crate::string \" crate::more"; let c = '"'; crate::epsilon::f(); $crate::zeta! }
        use super::super::{log::x, eta}; use my_crate::theta; use super::iota;
    "#;
    let mut found = used(&code(text), 2);
    found.sort_unstable();
    assert_eq!(found, ["alpha", "beta", "epsilon", "gamma", "log", "zeta"]);
}

#[test]
fn the_rows_decide() {
    assert!(may_use("engine", "objects") && may_use("objects", "objects"));
    assert!(may_use("kernel", "error") && may_use("error", "progress"));
    assert!(may_use("objects", "args") && !may_use("kernel", "args"));
    assert!(may_use("log", "kernel") && !may_use("kernel", "log"));
    assert!(!may_use("objects", "options") && !may_use("images", "tracee"));
    assert!(!may_use("engine", "unheard_of"));
}
