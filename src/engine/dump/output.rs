//! The directory that a dump goes to, and what an older dump in it means.

use crate::error::Result;
use crate::images::dir::ImageDir;
use crate::images::write::Store;

/// Where the dump is written.
///
/// To begin ends the life of an older dump in the directory, which has to outlive a refusal of the new
/// one. So where there is an older one, the beginning waits until all is known to be carried.
pub enum Output<'a> {
    /// The directory holds an older dump.
    Occupied { dir: &'a ImageDir, place: &'a mut Option<Store> },
    /// It held none.
    Begun(&'a Store),
}

impl<'a> Output<'a> {
    /// Begins in `dir` if it holds no dump. `place` is where the store is to live.
    pub fn new(dir: &'a ImageDir, place: &'a mut Option<Store>) -> Result<Self> {
        let occupied = Self::Occupied { dir, place };
        if dir.has_dump() { Ok(occupied) } else { occupied.begin().map(Self::Begun) }
    }

    /// The store, if writing has begun.
    pub fn begun(&self) -> Option<&'a Store> {
        match self {
            Self::Occupied { .. } => None,
            Self::Begun(store) => Some(store),
        }
    }

    /// Begins, if that was not done yet.
    pub fn begin(self) -> Result<&'a Store> {
        match self {
            Self::Occupied { dir, place } => Ok(place.insert(Store::new(dir.begin()?))),
            Self::Begun(store) => Ok(store),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::dir::INVENTORY;

    #[test]
    fn an_older_dump_stays_until_the_new_one_begins() {
        let path = std::env::temp_dir().join(format!("criu-output-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let dir = ImageDir::new(std::fs::File::open(&path).unwrap().into());
        let mut place = None;
        assert!(Output::new(&dir, &mut place).unwrap().begun().is_some());

        std::fs::write(path.join(INVENTORY), b"older").unwrap();
        let mut place = None;
        let output = Output::new(&dir, &mut place).unwrap();
        assert!(output.begun().is_none());
        assert_eq!(std::fs::read(path.join(INVENTORY)).unwrap(), b"older");
        output.begin().unwrap();
        assert!(!dir.has_dump());
        std::fs::remove_dir_all(path).unwrap();
    }
}
