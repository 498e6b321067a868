//! What /proc says about processes, and waiting without timed assertions.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// Nothing takes this long unless it hangs.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `probe` returns something; fails with what `doing` says when it never does.
pub fn until<T>(doing: impl Fn() -> String, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "gave up waiting: {}", doing());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The fields of /proc/PID/stat from the state on, and the state itself.
fn stat(pid: i32) -> Option<(char, Vec<String>)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<String> =
        text[text.rfind(')')? + 1..].split_whitespace().map(str::to_owned).collect();
    Some((fields.first()?.chars().next()?, fields))
}

/// The state letter of a task, if it exists.
pub fn state_of(pid: i32) -> Option<char> {
    stat(pid).map(|(state, _)| state)
}

/// Whether the process exists and has not ended.
pub fn alive(pid: i32) -> bool {
    state_of(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The parent of a process.
pub fn parent_of(pid: i32) -> Option<i32> {
    stat(pid)?.1.get(1)?.parse().ok()
}

/// The session of a process.
pub fn session_of(pid: i32) -> Option<i32> {
    stat(pid)?.1.get(3)?.parse().ok()
}

/// Ticks of the processor that a process has used; none of one that is gone.
pub fn ticks_of(pid: i32) -> u64 {
    let fields = stat(pid).map(|(_, fields)| fields).unwrap_or_default();
    // utime and stime.
    fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// All process ids of the machine.
pub fn all() -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("read /proc");
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A process and its descendants, the process first.
pub fn tree_of(root: i32) -> Vec<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for pid in all() {
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        found.extend(children.get(&found[next]).into_iter().flatten());
        next += 1;
    }
    found
}

/// The threads of a process.
pub fn threads_of(pid: i32) -> Vec<i32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return vec![pid] };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// All processes whose environment holds `setting`, restored clones included.
pub fn with_environment(setting: &str) -> Vec<i32> {
    let holds = |pid: &i32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|entry| entry == setting.as_bytes())
    };
    all().into_iter().filter(holds).collect()
}
