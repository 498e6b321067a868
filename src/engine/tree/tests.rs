//! The planner against the simulated kernel, the executor against the real one (as root).

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::AsRawFd;

use super::generate::{self, Generated, OUTER};
use super::simulate::Kernel;
use super::*;
use crate::error::Kind;
use crate::kernel::kcmp::{self, Kcmp};
use crate::kernel::pid::HostPid;
use crate::kernel::pin::Pin;
use crate::kernel::{pidfd, proc};
use crate::tracee::blank::{Blank, SpawnSpec};

const HELPER: u64 = 0x1000_0000;

fn outer() -> Outer {
    Outer { sid: OUTER.0, pgid: OUTER.1 }
}

fn node(pid: i32, ppid: i32, pgid: i32, sid: i32) -> Node {
    Node { pid, ppid, pgid, sid, zombie: false, objects: None }
}

/// Lives a plan under the simulated kernel's rules.
fn simulate(plan: &Plan) -> Result<Kernel, String> {
    let mut kernel = Kernel::new(plan.root, OUTER.0, OUTER.1);
    let mut helpers: HashMap<u32, i32> = HashMap::new();
    let mut next_free = 1_000_000;
    for op in &plan.ops {
        let number = |who: Who| match who {
            Who::Task(pid) => pid,
            Who::Helper(id) => helpers[&id],
        };
        match *op {
            Op::Clone { by, who, pid, flags } => {
                next_free += 1;
                let new = pid.unwrap_or(next_free);
                kernel.fork(number(by), new, flags & libc::CLONE_PARENT as u64 != 0)?;
                if let Who::Helper(id) = who {
                    helpers.insert(id, new);
                }
            }
            Op::Setsid { who } => kernel.setsid(number(who))?,
            Op::SetGroup { who, group } => kernel.setpgid(number(who), group, OUTER)?,
            Op::Subreaper { who, on } => kernel.set_subreaper(number(who), on)?,
            Op::Exit { who, parent } => {
                kernel.exit(number(who), -1)?;
                kernel.reap(number(parent), number(who))?;
            }
        }
    }
    Ok(kernel)
}

/// Parent, group and session that a process of the table has to get.
fn placed(node: &Node, nodes: &[Node], outer: Outer) -> (i32, i32, i32) {
    let root = &nodes[0];
    if root.sid == root.pid || node.sid != root.sid {
        return (node.ppid, node.pgid, node.sid);
    }
    let founded = nodes.iter().any(|other| other.pid == root.pgid);
    let pgid = if !founded && node.pgid == root.pgid { outer.pgid } else { node.pgid };
    (node.ppid, pgid, outer.sid)
}

/// Checks that a plan for the table is legal and leads to it.
fn check(nodes: &[Node]) -> Result<Plan, String> {
    let plan = plan(nodes, Some(outer())).map_err(|error| error.to_string())?;
    let kernel = simulate(&plan)?;
    let wanted: BTreeMap<i32, (i32, i32, i32)> =
        nodes.iter().map(|n| (n.pid, placed(n, nodes, outer()))).collect();
    let got: BTreeMap<i32, (i32, i32, i32)> =
        kernel.processes.iter().map(|(pid, p)| (*pid, (p.parent, p.pgid, p.sid))).collect();
    if wanted == got { Ok(plan) } else { Err(format!("wanted {wanted:?}\ngot {got:?}")) }
}

#[test]
fn random_tables_are_planned_exactly() {
    let (mut processes, mut helpers) = (0, 0);
    for seed in 0..5000 {
        let Generated { nodes, .. } = generate::table(seed);
        let plan = check(&nodes).unwrap_or_else(|why| panic!("seed {seed}: {why}\n{nodes:#?}"));
        processes += nodes.len();
        let is_helper = |op: &&Op| matches!(op, Op::Clone { who: Who::Helper(_), .. });
        helpers += plan.ops.iter().filter(is_helper).count();
    }
    assert!(processes > 50_000, "{processes}");
    assert!(helpers > 2_000, "{helpers}");
}

#[test]
fn a_lone_session_leader_needs_one_step() {
    let plan = check(&[node(5, 0, 5, 5)]).unwrap();
    assert_eq!(plan.ops, [Op::Setsid { who: Who::Task(5) }]);
}

#[test]
fn a_child_that_already_is_where_it_belongs_needs_one_step() {
    let plan = check(&[node(5, 0, 5, 5), node(6, 5, 5, 5)]).unwrap();
    assert_eq!(plan.ops.len(), 2);
}

#[test]
fn a_shell_job_joins_the_outer_session() {
    let nodes = [node(50, 0, 40, 30), node(51, 50, 51, 30), node(52, 51, 40, 30)];
    let plan = plan(&nodes, Some(outer())).unwrap();
    let kernel = simulate(&plan).unwrap();
    let place = |pid| (kernel.processes[&pid].pgid, kernel.processes[&pid].sid);
    assert_eq!(place(50), (OUTER.1, OUTER.0));
    assert_eq!(place(51), (51, OUTER.0));
    assert_eq!(place(52), (OUTER.1, OUTER.0));
}

#[test]
fn an_outer_session_without_shell_job_is_refused_with_a_remedy() {
    let error = plan(&[node(50, 0, 50, 30)], None).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.to_string().contains("--shell-job"), "{error}");
}

/// In a new pid namespace, what is outside of it has the number 0.
#[test]
fn an_outer_session_without_a_number_is_joined_but_not_entered_again() {
    let outer = Some(Outer { sid: 0, pgid: 0 });
    let born = [node(50, 0, 40, 30), node(51, 50, 40, 30), node(52, 50, 52, 30)];
    assert!(plan(&born, outer).is_ok());
    assert!(plan(&[node(50, 0, 50, 0)], None).is_err());
    // 51 founded the group of 52, and is back in the outer one.
    let back = [node(50, 0, 40, 30), node(51, 50, 40, 30), node(52, 51, 51, 30)];
    let error = plan(&back, outer).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.to_string().contains("pid 51: it left"), "{error}");
}

#[test]
fn impossible_tables_are_refused() {
    let leader_in_foreign_group = vec![node(5, 0, 5, 5), node(6, 5, 5, 6)];
    let founder_elsewhere = vec![node(5, 0, 5, 5), node(6, 5, 6, 5), node(7, 6, 7, 6)];
    let spread_group = vec![node(5, 0, 5, 5), node(6, 5, 6, 6), node(7, 5, 6, 5)];
    let twice = vec![node(5, 0, 5, 5), node(5, 5, 5, 5)];
    let orphan = vec![node(5, 0, 5, 5), node(6, 9, 5, 5)];
    // 8 can only be born in the session of 7 after its own child has founded it.
    let child_before_parent = vec![node(5, 0, 5, 5), node(8, 5, 8, 7), node(7, 8, 7, 7)];
    let tables = [vec![], leader_in_foreign_group, founder_elsewhere, spread_group, twice, orphan];
    for table in tables.into_iter().chain([child_before_parent]) {
        let error = plan(&table, None).unwrap_err();
        assert_eq!(error.kind(), Kind::BadImages, "{table:?}");
    }
}

const APART: Objects = Objects { vm: 0, files: 0, fs: 0, sighand: 0 };

fn sharing(node: Node, objects: Objects) -> Node {
    Node { objects: Some(objects), ..node }
}

#[test]
fn shared_objects_become_clone_flags() {
    let all = Objects { vm: 1, files: 2, fs: 3, sighand: 4 };
    let nodes = [
        sharing(node(5, 0, 5, 5), all),
        sharing(node(6, 5, 5, 5), Objects { vm: 9, sighand: 8, ..all }),
        sharing(node(7, 6, 5, 5), Objects { vm: 9, files: 6, sighand: 5, ..all }),
    ];
    let plan = plan(&nodes, None).unwrap();
    let flags_of = |wanted: i32| {
        plan.ops.iter().find_map(|op| match op {
            Op::Clone { who, flags, .. } if *who == Who::Task(wanted) => Some(*flags),
            _ => None,
        })
    };
    assert_eq!(flags_of(6), Some((libc::CLONE_FILES | libc::CLONE_FS) as u64));
    assert_eq!(flags_of(7), Some((libc::CLONE_VM | libc::CLONE_FS) as u64));
}

#[test]
fn shared_signal_actions_without_shared_memory_are_refused() {
    let with = |vm| Objects { vm, sighand: 1, ..APART };
    let nodes = [sharing(node(5, 0, 5, 5), with(1)), sharing(node(6, 5, 5, 5), with(2))];
    let text = plan(&nodes, None).unwrap_err().to_string();
    assert!(text.contains("pid 6: table of signal actions shared with pid 5"), "{text}");
}

#[test]
fn a_sibling_clones_what_shares_with_it() {
    let with = |vm| Objects { vm, ..APART };
    let nodes = [
        sharing(node(5, 0, 5, 5), with(1)),
        sharing(node(6, 5, 5, 5), with(2)),
        sharing(node(7, 5, 5, 5), with(2)),
    ];
    let plan = plan(&nodes, None).unwrap();
    let flags = (libc::CLONE_PARENT | libc::CLONE_VM) as u64;
    let (by, who) = (Who::Task(6), Who::Task(7));
    assert!(plan.ops.contains(&Op::Clone { by, who, pid: Some(7), flags }));
}

#[test]
fn sharers_that_nothing_connects_are_refused_by_name() {
    let with = |files| Objects { files, ..APART };
    let nodes = [
        sharing(node(5, 0, 5, 5), with(1)),
        sharing(node(6, 5, 5, 5), with(2)),
        sharing(node(7, 6, 5, 5), with(1)),
    ];
    let error = plan(&nodes, None).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    let text = error.to_string();
    assert!(text.contains("pid 7: table of descriptors shared with pid 5"), "{text}");
}

/// Free numbers for the tables of real trees.
fn free_numbers(count: usize, seed: u64) -> Vec<i32> {
    let mut random = generate::Random::new(seed ^ u64::from(std::process::id()) << 32);
    let mut numbers = BTreeSet::new();
    let mut order = Vec::new();
    while order.len() < count {
        let number = 5_000 + i32::try_from(random.below(25_000)).unwrap();
        if numbers.insert(number) && !std::fs::exists(format!("/proc/{number}")).unwrap() {
            order.push(number);
        }
    }
    order
}

/// Gives a generated table numbers that are free on this machine.
fn translate(nodes: &[Node], numbers: &[i32]) -> (Vec<Node>, HashMap<i32, i32>) {
    let mut map = HashMap::from([(0, 0)]);
    let mut free = numbers.iter();
    let mut of = |old: i32| *map.entry(old).or_insert_with(|| *free.next().unwrap());
    let new = nodes
        .iter()
        .map(|n| Node {
            pid: of(n.pid),
            ppid: of(n.ppid),
            pgid: of(n.pgid),
            sid: of(n.sid),
            ..n.clone()
        })
        .collect();
    (new, map)
}

fn own_outer() -> Outer {
    let stat = proc::stat(HostPid::own()).unwrap();
    Outer { sid: stat.session.number(), pgid: stat.pgrp.number() }
}

/// Builds a table for real; `None` if somebody took one of its numbers meanwhile.
fn build(nodes: &[Node]) -> Option<Tree> {
    let plan = plan(nodes, Some(own_outer())).unwrap();
    let built = Blank::spawn(&SpawnSpec::new(HostPid::new(plan.root), HELPER))
        .and_then(|root| Tree::build(root, &plan, &mut |_, _, _| Ok(())));
    match built {
        Err(error) if error.kind() == Kind::PidTaken => None,
        tree => Some(tree.unwrap()),
    }
}

/// Builds a generated table with free numbers, which are returned, too.
fn build_somewhere(nodes: &[Node], seed: u64) -> (Vec<Node>, HashMap<i32, i32>, Tree) {
    for attempt in 0..50 {
        let (nodes, map) = translate(nodes, &free_numbers(400, seed * 50 + attempt));
        if let Some(tree) = build(&nodes) {
            return (nodes, map, tree);
        }
    }
    panic!("somebody takes every number");
}

fn compare(nodes: &[Node]) {
    for n in nodes {
        let stat =
            proc::stat(HostPid::new(n.pid)).unwrap_or_else(|_| panic!("{n:?} does not exist"));
        let mut wanted = placed(n, nodes, own_outer());
        if n.pid == nodes[0].pid {
            wanted.0 = HostPid::own().number();
        }
        let found = [stat.ppid, stat.pgrp, stat.session].map(HostPid::number);
        assert_eq!(found, <[i32; 3]>::from(wanted), "{n:?}");
        assert_eq!(stat.state == 'Z', n.zombie, "{n:?} {}", stat.state);
    }
}

#[test]
fn random_trees_are_built_exactly() {
    let _pin = Pin::here().unwrap();
    let (mut built, mut zombies, mut adoptions) = (0, 0, 0);
    for seed in 0..120 {
        let Generated { nodes, subreapers } = generate::table(seed);
        let (nodes, map, mut tree) = build_somewhere(&nodes, seed);
        let subreapers: Vec<_> = subreapers.iter().map(|pid| HostPid::new(map[pid])).collect();
        tree.set_subreapers(&subreapers).unwrap();
        let statuses = [0, 3 << 8, 9, 15, 0x8b];
        let dead: Vec<(HostPid, i32)> = nodes
            .iter()
            .filter(|n| n.zombie)
            .map(|n| {
                (HostPid::new(n.pid), statuses[usize::try_from(n.pid).unwrap() % statuses.len()])
            })
            .collect();
        assert_eq!(tree.bury(&dead).unwrap(), Vec::<HostPid>::new());
        compare(&nodes);
        built += 1;
        zombies += dead.len();
        adoptions += subreapers.len();
        drop(tree);
    }
    assert_eq!(built, 120);
    assert!(zombies > 20 && adoptions > 100, "{zombies} {adoptions}");
}

#[test]
fn a_dropped_tree_leaves_nothing() {
    let Generated { nodes, .. } = generate::table(3);
    let (nodes, _, tree) = build_somewhere(&nodes, 77);
    let pidfds: Vec<_> = nodes.iter().map(|n| pidfd::open(HostPid::new(n.pid)).unwrap()).collect();
    drop(tree);
    for pidfd in pidfds {
        // The number itself may have been given out again.
        let info = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
        let info = std::fs::read_to_string(info).unwrap();
        assert!(info.contains("Pid:\t-1\n"), "{info}");
    }
}

#[test]
fn shared_objects_are_shared_in_the_kernel() {
    let nodes = [
        sharing(node(1, 0, 1, 1), Objects { vm: 1, files: 1, fs: 1, sighand: 1 }),
        sharing(node(2, 1, 1, 1), Objects { vm: 2, files: 2, fs: 1, sighand: 2 }),
        sharing(node(3, 1, 1, 1), Objects { vm: 2, files: 3, fs: 1, sighand: 2 }),
    ];
    let (nodes, _, _tree) = build_somewhere(&nodes, 5);
    let pids: Vec<_> = nodes.iter().map(|n| HostPid::new(n.pid)).collect();
    let same = |a: usize, b: usize, what| {
        kcmp::compare(pids[a], pids[b], what, 0, 0) == Ok(Ordering::Equal)
    };
    assert!(same(0, 1, Kcmp::Fs) && same(1, 2, Kcmp::Fs));
    assert!(same(1, 2, Kcmp::Vm) && same(1, 2, Kcmp::Sighand));
    assert!(!same(0, 1, Kcmp::Vm) && !same(1, 2, Kcmp::Files) && !same(0, 1, Kcmp::Sighand));
    compare(&nodes);
}

#[test]
#[ignore = "a measurement"]
fn cost_of_a_tree() {
    let _pin = Pin::here().unwrap();
    let (mut processes, mut spent) = (0, std::time::Duration::ZERO);
    for seed in 0..200 {
        let Generated { nodes, .. } = generate::table(seed);
        let (nodes, _) = translate(&nodes, &free_numbers(400, seed));
        let start = std::time::Instant::now();
        let plan = plan(&nodes, Some(own_outer())).unwrap();
        let planned = start.elapsed();
        if let Some(tree) = build(&nodes) {
            // Planned twice, counted once.
            spent += start.elapsed() - planned;
            processes += u32::try_from(plan.order.len()).unwrap();
            drop(tree);
        }
    }
    println!("{:?} per process ({processes})", spent / processes);
}
