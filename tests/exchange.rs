//! Images go both ways between us and CRIU, where `CRIU_PEER` names its binary.

mod common;

use common::{NOBODY, Round, Scene, peer, state_of, until};
use nix::sys::signal::Signal;

/// What both carry, in both directions, dumped and restored twice in a row.
macro_rules! exchanges {
    ($($program:ident,)*) => {
        $(mod $program {
            use super::*;

            /// What we dump, CRIU restores.
            #[test]
            fn ours_to_theirs() {
                let Some(restorer) = peer() else { return };
                Round { restorer, args: &["plain"], ..Round::of(stringify!($program)) }.run();
            }

            /// What CRIU dumps, we restore.
            #[test]
            fn theirs_to_ours() {
                let Some(dumper) = peer() else { return };
                Round { dumper, args: &["plain"], ..Round::of(stringify!($program)) }.run();
            }
        })*
    };
}

/// A large process: we copy its pages before all is known of its layout.
#[test]
fn much_memory() {
    let Some(criu) = peer() else { return };
    for args in [&["100"][..], &["100", "locked"]] {
        Round { restorer: criu.clone(), args, ..Round::of("large") }.run();
        Round { dumper: criu.clone(), args, ..Round::of("large") }.run();
    }
}

/// The same with tasks of a user without privileges.
macro_rules! exchanges_of_another_user {
    ($($program:ident,)*) => {
        mod of_another_user {
            $(mod $program {
                use super::super::*;

                #[test]
                fn ours_to_theirs() {
                    let Some(restorer) = peer() else { return };
                    let user = Some(NOBODY);
                    let round = Round::of(stringify!($program));
                    Round { restorer, user, args: &["plain"], ..round }.run();
                }

                #[test]
                fn theirs_to_ours() {
                    let Some(dumper) = peer() else { return };
                    if !reads_limits_of_others() {
                        return;
                    }
                    let user = Some(NOBODY);
                    let round = Round::of(stringify!($program));
                    Round { dumper, user, args: &["plain"], ..round }.run();
                }
            })*
        }
    };
}

/// CRIU reads limits with a call that takes CAP_SYS_RESOURCE for tasks of other users.
fn reads_limits_of_others() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").expect("read the own status");
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("CapEff");
    let effective = u64::from_str_radix(line, 16).expect("a hexadecimal set");
    let privileged = effective & 1 << CAP_SYS_RESOURCE != 0;
    if !privileged {
        eprintln!("skipped: without CAP_SYS_RESOURCE CRIU cannot dump tasks of other users");
    }
    privileged
}

exchanges! {
    busy, registers, signals, timers, rseq, robust, filtered, limits, realtime, chrooted,
    threads, memory_private, memory_files, memory_shared, memory_cow, memory_special, regular,
    pipes, events, memfds, tree, crowd, open_file, syscalls,
}

exchanges_of_another_user! {
    busy, registers, signals, timers, rseq, robust, limits, threads, memory_private, memory_files,
    memory_shared, memory_cow, regular, pipes, events, memfds, tree, crowd, syscalls, credentials,
}

/// Terminals, in both directions; one after the other, because their numbers are needed.
#[test]
fn ptys() {
    let Some(peer) = peer() else { return };
    Round { restorer: peer.clone(), ..Round::of("ptys") }.run();
    Round { dumper: peer, ..Round::of("ptys") }.run();
}

/// Root, with other ids, groups and capabilities than a root has at first.
#[test]
fn credentials() {
    let Some(peer) = peer() else { return };
    Round { restorer: peer.clone(), ..Round::of("credentials") }.run();
    if reads_limits_of_others() {
        Round { dumper: peer, ..Round::of("credentials") }.run();
    }
}

/// A stopped root with threads stays stopped.
#[test]
fn stopped() {
    let Some(peer) = peer() else { return };
    let scene = Scene::new("stopped");
    let task = scene.start("stopped", &[]);
    let task = task.dump(&scene.path("ours")).restore_with(&peer, &[]);
    until_stopped(task.pid());
    let task = task.dump_with(&peer, &scene.path("theirs"), &[]).restore();
    until_stopped(task.pid());
    task.signal_group(Signal::SIGUSR1);
    task.ends_well();
}

fn until_stopped(pid: i32) {
    until(
        || format!("pid {pid} is {:?}", state_of(pid)),
        || (state_of(pid) == Some('T')).then_some(()),
    );
}

/// A stop that is still pending when the dump begins is the state of the task in its image.
#[test]
fn stopped_twice() {
    let Some(peer) = peer() else { return };
    let scene = Scene::new("stopped-twice");
    let task = scene.start("busy", &[]);
    task.signal(Signal::SIGSTOP);
    until_stopped(task.pid());
    task.signal(Signal::SIGSTOP);
    let task = task.dump(&scene.path("images")).restore_with(&peer, &[]);
    until_stopped(task.pid());
    task.signal(Signal::SIGCONT);
    task.verify();
}
