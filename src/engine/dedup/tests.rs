use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::*;
use crate::images::codec::Encoder;
use crate::images::proto::PagemapHead;
use crate::images::sections::SECTIONS;
use crate::options::{Options, Places, Verb};

const PAGE: usize = PAGE_SIZE as usize;
const OWN: u32 = 4;
const OF_PARENT: u32 = 1;

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("criu-dedup-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A dump with pages of one byte each; entries are address in pages, count, flags.
    fn dump(&self, name: &str, parent: Option<&str>, entries: &[(u64, u64, u32)]) -> PathBuf {
        let dir = self.0.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let mut file = Encoder::new(SECTIONS.pagemap.magic);
        file.entry(&PagemapHead { pages_id: 3 });
        let mut pages = Vec::new();
        for (start, count, flags) in entries {
            file.entry(&PagemapEntry {
                vaddr: start * PAGE_SIZE,
                nr_pages: Some(*count),
                flags: Some(*flags),
                ..PagemapEntry::default()
            });
            if flags & OWN != 0 {
                pages.extend((0..*count).flat_map(|_| [name.as_bytes()[0]; PAGE]));
            }
        }
        std::fs::write(dir.join("pagemap-7.img"), file.finish()).unwrap();
        std::fs::write(dir.join("pages-3.img"), pages).unwrap();
        if let Some(parent) = parent {
            std::os::unix::fs::symlink(format!("../{parent}"), dir.join("parent")).unwrap();
        }
        dir
    }
}

fn dedup(dir: &Path) -> Result<()> {
    let places = Places { images: Some(File::open(dir).unwrap().into()), ..Places::default() };
    let request = Request::new(Verb::Dedup, Options::default(), places).unwrap();
    run(&request, &Log::none())
}

/// The first byte of each page.
fn pages(dir: &Path) -> String {
    let file = File::open(dir.join("pages-3.img")).unwrap();
    let count = file.metadata().unwrap().len() as usize / PAGE;
    let first = |index: usize| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, (index * PAGE) as u64).unwrap();
        if byte == [0] { '.' } else { char::from(byte[0]) }
    };
    (0..count).map(first).collect()
}

#[test]
fn a_dump_without_parent_has_nothing_to_do() {
    let scratch = Scratch::new("none");
    let dir = scratch.dump("a", None, &[(16, 4, OWN)]);
    dedup(&dir).unwrap();
    assert_eq!(pages(&dir), "aaaa");
}

#[test]
fn what_the_newest_has_is_taken_out_of_all_before() {
    let scratch = Scratch::new("chain");
    let a = scratch.dump("a", None, &[(16, 8, OWN), (100, 1, OWN)]);
    let b = scratch.dump("b", Some("a"), &[(16, 2, OF_PARENT), (18, 4, OWN), (22, 2, OF_PARENT)]);
    let c = scratch.dump("c", Some("b"), &[(17, 3, OWN), (20, 3, OF_PARENT), (100, 1, OWN)]);
    dedup(&c).unwrap();
    assert_eq!(pages(&c), "cccc");
    assert_eq!(pages(&b), "..bb");
    // Page 100 was not in b, so nobody who restores c or b would look for it in a: it stays.
    assert_eq!(pages(&a), "a...aaaaa");
    dedup(&c).unwrap();
    assert_eq!(pages(&b), "..bb");
}

#[test]
fn holes_free_blocks_and_keep_the_size() {
    let scratch = Scratch::new("blocks");
    let a = scratch.dump("a", None, &[(16, 64, OWN)]);
    let b = scratch.dump("b", Some("a"), &[(16, 64, OWN)]);
    let of = |dir: &Path| std::fs::metadata(dir.join("pages-3.img")).unwrap();
    let (size, blocks) = (of(&a).size(), of(&a).blocks());
    dedup(&b).unwrap();
    assert_eq!(of(&a).size(), size);
    assert!(of(&a).blocks() < blocks, "{} of {blocks} blocks", of(&a).blocks());
}

#[test]
fn the_manifest_says_that_pages_are_missing() {
    let scratch = Scratch::new("manifest");
    let a = scratch.dump("a", None, &[(16, 1, OWN)]);
    let mut manifest = Manifest::default();
    manifest.add_written("pages-3.img", PAGE_SIZE, Some(1));
    std::fs::write(a.join(MANIFEST), manifest.to_text()).unwrap();
    let b = scratch.dump("b", Some("a"), &[(16, 1, OWN)]);
    dedup(&b).unwrap();
    let dir = ImageDir::new(File::open(&a).unwrap().into());
    let error = Manifest::load(&dir).unwrap().unwrap().check_all(&dir).unwrap_err().to_string();
    assert!(error.contains("pages were taken out of it by dedup"), "{error}");
}

#[test]
fn a_circle_and_a_dangling_parent_are_refused() {
    let scratch = Scratch::new("circle");
    let a = scratch.dump("a", Some("b"), &[(16, 1, OWN)]);
    scratch.dump("b", Some("a"), &[(16, 1, OWN)]);
    assert!(dedup(&a).unwrap_err().to_string().contains("its own ancestor"));
    let c = scratch.dump("c", Some("nowhere"), &[(16, 1, OWN)]);
    assert!(dedup(&c).unwrap_err().to_string().contains("No such file"));
}

#[test]
fn impossible_entries_are_refused() {
    let scratch = Scratch::new("impossible");
    scratch.dump("a", None, &[(16, 1, OWN)]);
    let b = scratch.dump("b", Some("a"), &[(1 << 50, 1 << 50, OF_PARENT)]);
    dedup(&b).unwrap();
    let c = scratch.dump("c", Some("a"), &[(16, 1 << 53, OF_PARENT)]);
    assert!(dedup(&c).unwrap_err().to_string().contains("has no end"));
}

#[test]
fn what_may_be_somebody_elses_is_not_changed() {
    use std::os::unix::fs::{chown, symlink};
    let scratch = Scratch::new("others");
    let old = scratch.dump("old", None, &[(0, 4, OWN)]);
    let new = scratch.dump("new", Some("old"), &[(0, 4, OWN)]);
    let (pages, other) = (old.join("pages-3.img"), scratch.0.join("other"));
    let refusal = || {
        let error = dedup(&new).unwrap_err().to_string();
        let precious = std::fs::read(&other).unwrap_or_else(|_| std::fs::read(&pages).unwrap());
        assert_eq!(precious, [b'o'; 4 * PAGE]);
        error
    };
    chown(&old, Some(4242), None).unwrap();
    assert!(refusal().contains("belongs to user 4242"));
    chown(&old, Some(0), None).unwrap();
    std::fs::hard_link(&pages, &other).unwrap();
    assert!(refusal().contains("pages-3.img is no regular file of one name"));
    std::fs::remove_file(&pages).unwrap();
    symlink(&other, &pages).unwrap();
    assert!(refusal().contains("ELOOP"));
    std::fs::remove_file(&pages).unwrap();
    std::fs::rename(&other, &pages).unwrap();
    dedup(&new).unwrap();
    assert_eq!(std::fs::read(&pages).unwrap(), [0; 4 * PAGE]);
}
