//! Random legal tables, for tests. Processes do random things under the kernel's rules, and the
//! processes that are left form the table.

use super::simulate::Kernel;
use super::table::Node;

/// A small generator of reproducible numbers (splitmix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((x ^ (x >> 31)) % limit as u64).unwrap()
    }

    fn pick(&mut self, from: &[i32]) -> i32 {
        from[self.below(from.len())]
    }
}

/// A table, and what else is known of its processes.
pub struct Generated {
    pub nodes: Vec<Node>,
    /// Processes that take orphans at the end.
    pub subreapers: Vec<i32>,
}

/// The session and group that the root is born in.
pub const OUTER: (i32, i32) = (7, 8);
const ROOT: i32 = 1000;

/// A table of up to a few dozen processes; the root founds a session in most of them.
pub fn table(seed: u64) -> Generated {
    let mut random = Random::new(seed);
    let mut kernel = Kernel::new(ROOT, OUTER.0, OUTER.1);
    // Orphans must stay in the tree.
    kernel.set_subreaper(ROOT, true).unwrap();
    if random.below(4) != 0 {
        kernel.setsid(ROOT).unwrap();
    }
    let mut next = ROOT + 1;
    for _ in 0..20 + random.below(150) {
        step(&mut kernel, &mut random, &mut next);
    }
    Generated { nodes: nodes(&kernel), subreapers: subreapers(&kernel) }
}

fn step(kernel: &mut Kernel, random: &mut Random, next: &mut i32) {
    let live: Vec<i32> =
        kernel.processes.iter().filter(|(_, p)| !p.zombie).map(|(pid, _)| *pid).collect();
    let pid = random.pick(&live);
    // What the rules forbid fails, and changes nothing.
    let _ = match random.below(20) {
        0..8 => {
            *next += 1;
            kernel.fork(pid, *next, false)
        }
        8..11 => kernel.setsid(pid),
        11 | 12 => kernel.setpgid(pid, 0, OUTER),
        13 | 14 => {
            let group = kernel.processes[&random.pick(&live)].pgid;
            kernel.setpgid(pid, group, OUTER)
        }
        15 if pid != ROOT => kernel.set_subreaper(pid, random.below(2) == 0),
        16..19 if pid != ROOT => {
            let parent = kernel.processes[&pid].parent;
            let died = kernel.exit(pid, ROOT);
            if random.below(6) != 0 { kernel.reap(parent, pid) } else { died }
        }
        _ => reap_one(kernel, random),
    };
}

fn reap_one(kernel: &mut Kernel, random: &mut Random) -> Result<(), String> {
    let zombies: Vec<(i32, i32)> = kernel
        .processes
        .iter()
        .filter(|(_, p)| p.zombie)
        .map(|(pid, p)| (p.parent, *pid))
        .collect();
    if zombies.is_empty() {
        return Ok(());
    }
    let (parent, pid) = zombies[random.below(zombies.len())];
    kernel.reap(parent, pid)
}

/// Parents before children.
pub fn nodes(kernel: &Kernel) -> Vec<Node> {
    let mut order = vec![ROOT];
    let mut at = 0;
    while at < order.len() {
        let parent = order[at];
        order.extend(
            kernel.processes.iter().filter(|(_, p)| p.parent == parent).map(|(pid, _)| pid),
        );
        at += 1;
    }
    order.iter().map(|pid| node(*pid, kernel)).collect()
}

fn node(pid: i32, kernel: &Kernel) -> Node {
    let p = &kernel.processes[&pid];
    Node { pid, ppid: p.parent, pgid: p.pgid, sid: p.sid, zombie: p.zombie, objects: None }
}

fn subreapers(kernel: &Kernel) -> Vec<i32> {
    let live = kernel.processes.iter().filter(|(_, p)| p.subreaper && !p.zombie);
    live.map(|(pid, _)| *pid).collect()
}
