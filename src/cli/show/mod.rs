//! `criu show DIR`: a dump as a tree of processes, with their memory, files and sockets.
//!
//! [`model`] takes from the images what is worth showing, [`text`] and [`object`] print it. Images of CRIU's own are shown as well as ours, and such as
//! cannot be restored here. Nothing in them is trusted: text is cleaned of what would steer a
//! terminal, numbers may be impossible.

mod model;
mod object;
mod text;

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::{DONE, FAILED, report};
use crate::error::{Context, Error, Kind, Result, shown};
use crate::images::dir::ImageDir;
use crate::images::snapshot::Snapshot;
use crate::options::Options;

pub use self::model::About;

/// Lines of this level say more.
const IN_DETAIL: i32 = 3;

/// Shows the dump that `words` or the options name. The result is the exit code.
pub fn run(options: &Options, words: &[OsString], json: bool) -> i32 {
    match rendered(options, words, json) {
        Ok(text) => {
            say!("{}", text.trim_end());
            DONE
        }
        Err(error) => {
            report::failure("show", &error, None, json);
            FAILED
        }
    }
}

fn rendered(options: &Options, words: &[OsString], json: bool) -> Result<String> {
    let path = match words {
        [] => options.images_dir.as_deref().unwrap_or(OsStr::new(".")),
        [path] => path,
        [_, more @ ..] => {
            let more = shown(&more.join(OsStr::new(" ")));
            let cause = format!("show takes one directory, and not `{more}' as well");
            return Err(Error::new(Kind::BadOptions, cause));
        }
    };
    let dir = ImageDir::new(directory(path)?);
    let snapshot = crate::images::read::read_unchecked(&dir)?;
    let about = About::of(&dir);
    Ok(if json {
        object::render(&snapshot, &about).to_string()
    } else {
        text::render(&snapshot, &about, options.log_level() >= IN_DETAIL)
    })
}

fn directory(path: &OsStr) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = open(path, flags, Mode::empty());
    opened.doing(|| format!("open image directory {}", shown(path)))
}

/// Both forms of any snapshot, for who wants to see them stand anything.
pub fn render(snapshot: &Snapshot) -> (String, String) {
    let about = About::default();
    (text::render(snapshot, &about, true), object::render(snapshot, &about).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::sections::SECTIONS;

    #[test]
    fn every_kind_of_image_file_is_shown() {
        let sample = Snapshot::sample();
        let (text, object) = render(&sample);
        let names: Vec<String> = sample.files().into_iter().map(|file| file.name).collect();
        for (field, image) in SECTIONS.all() {
            let name = names.iter().find(|name| image.is(name)).expect(field);
            assert!(text.contains(name.as_str()), "{name} is not in {text}");
            assert!(object.contains(&format!("\"{name}\"")), "{name} is not in {object}");
        }
    }
}
