//! Who holds a pid number that a restore needs.
//!
//! A number is taken by a process or thread of that id (also one that is dead and not waited
//! for), and by a process group or session that still has members after its leader has gone.

use std::fs;

/// A sentence about who holds the number, or `None` if nobody seems to.
pub fn holder_of(pid: i32) -> Option<String> {
    if let Some(stat) = Stat::read(pid) {
        return Some(stat.describe(pid));
    }
    processes().find_map(|member| membership(pid, member))
}

/// All processes that are there.
pub fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn membership(pid: i32, member: i32) -> Option<String> {
    let stat = Stat::read(member)?;
    let what = match pid {
        pid if pid == stat.group => "process group",
        pid if pid == stat.session => "session",
        _ => return None,
    };
    Some(format!("{what} {pid} still has {}", stat.describe(member)))
}

/// What `/proc/PID/stat` says of the place in the tree.
pub struct Stat {
    name: String,
    /// The letter of the state.
    pub state: char,
    /// The parent.
    pub parent: i32,
    /// The process group.
    pub group: i32,
    /// The session.
    pub session: i32,
}

impl Stat {
    /// `/proc/N/stat` exists for threads, too, although the directory does not list them.
    pub fn read(pid: i32) -> Option<Self> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        // The name need not be UTF-8.
        Self::parse(&String::from_utf8_lossy(&text))
    }

    /// The name is in parentheses and may contain any character.
    fn parse(text: &str) -> Option<Self> {
        let (before, after) = text.rsplit_once(')')?;
        let (_, name) = before.split_once('(')?;
        let mut fields = after.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let session = fields.next()?.parse().ok()?;
        Some(Self { name: name.to_owned(), state, parent, group, session })
    }

    fn describe(&self, pid: i32) -> String {
        match self.state {
            'Z' => format!("the zombie {pid} ({}), not waited for yet", self.name),
            _ => format!("process {pid} ({})", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_contain_anything() {
        let stat = Stat::parse("12 (a) (b) Z 1 7 8 0 -1").unwrap();
        assert_eq!((stat.name.as_str(), stat.state), ("a) (b", 'Z'));
        assert_eq!((stat.group, stat.session), (7, 8));
        assert_eq!(stat.describe(12), "the zombie 12 (a) (b), not waited for yet");
    }

    #[test]
    fn a_living_process_is_named() {
        let text = holder_of(1).unwrap();
        assert!(text.starts_with("process 1 ("), "{text}");
    }
}
