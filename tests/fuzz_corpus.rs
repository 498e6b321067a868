//! The inputs that fuzzing has kept, and those that once were too much: none is now.

#[path = "../fuzz/src/harness.rs"]
mod harness;

use std::fs;
use std::path::Path;

use criu::images::sections::SECTIONS;

/// Runs a target on each of its inputs, and on each cut short or altered in places.
fn replay(name: &str, target: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut count = 0;
    for entry in fs::read_dir(&corpus).expect("list the corpus") {
        let path = entry.expect("list the corpus").path();
        let bytes = fs::read(&path).expect("read an input");
        // Shown only if the target panics.
        eprintln!("{}", path.display());
        target(&bytes);
        let step = bytes.len() / 16 + 1;
        for at in (0..bytes.len()).step_by(step) {
            target(&bytes[..at]);
            let mut altered = bytes.clone();
            altered[at] = !altered[at];
            target(&altered);
        }
        count += 1;
    }
    assert!(count > 1, "{} holds {count} inputs", corpus.display());
}

#[test]
fn rpc() {
    replay("rpc", harness::rpc);
}

#[test]
fn config() {
    replay("config", harness::config);
}

#[test]
fn images() {
    replay("images", harness::images);
    replay("images", harness::show);
}

#[test]
fn every_kind_of_image_file_is_made_up() {
    for (at, (field, image)) in SECTIONS.all().into_iter().enumerate() {
        assert_eq!(harness::kind_of(&image.of(7_u32)), Some(at), "{field}");
    }
    assert_eq!(harness::ambiguous(), 0, "rename a field, or take more bits for a tag");
}
