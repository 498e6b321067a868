//! What cannot be carried is refused by name: which process, which object, and why. Everything
//! that stands in the way is told at once, and the tree runs on as if nothing had been.

use crate::common::{Scene, Task, alive, tree_of};

/// Holds `objects`, is refused, is found to be well; gives the message.
fn refused(objects: &[&str]) -> (Vec<i32>, String) {
    let scene = Scene::new("refused");
    let task = scene.start("helpers/refused", objects);
    let pids = tree_of(task.pid());
    let images = scene.path("images");
    let message = task.dump_call(&images).run().refused();
    runs_on(task, &pids);
    assert!(!images.join("inventory.img").exists(), "a refused dump leaves images behind");
    (pids, message)
}

fn runs_on(task: Task<'_>, pids: &[i32]) {
    for pid in pids {
        assert!(alive(*pid), "pid {pid} is gone");
    }
    task.verify();
}

/// Each object is held by a process of its own dump, so that nothing else can be meant.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident: $object:literal says $words:expr,)*) => {
        $($(#[$doc])* #[test] fn $name() {
            let (pids, message) = refused(&[$object]);
            let pid = format!("pid {}", pids[0]);
            assert!(message.contains(&pid), "the message does not name {pid}:\n{message}");
            for word in $words {
                assert!(message.contains(word), "the message does not say {word:?}:\n{message}");
            }
        })*
    };
}

refusals! {
    tcp_socket: "tcp" says ["fd 3", "socket:["],
    tcp6_socket: "tcp6" says ["fd 3", "socket:["],
    udp_socket: "udp" says ["fd 3", "socket:["],
    netlink_socket: "netlink" says ["fd 3", "socket:["],
    packet_socket: "packet" says ["fd 3", "socket:["],
    unix_socket: "unix" says ["fd 3", "socket:["],
    pair_of_unix_sockets: "socketpair" says ["fd 3", "fd 4", "socket:["],
    inotify: "inotify" says ["fd 3", "inotify"],
    fanotify: "fanotify" says ["fd 3", "fanotify"],
    io_uring: "io_uring" says ["fd 3", "io_uring"],
    userfaultfd: "userfaultfd" says ["fd 3", "userfaultfd"],
    perf_event: "perf" says ["fd 3", "perf_event"],
    bpf_map: "bpf" says ["fd 3", "bpf-map"],
    pidfd: "pidfd" says ["fd 3", "pidfd"],
    file_of_a_namespace: "namespace" says ["fd 3", "net:["],
    file_lock: "lock" says ["lock"],
    lease: "lease" says ["lease"],
    sysv_memory: "sysv" says ["SYSV"],
    /// A restore cannot put it there.
    moved_vdso: "moved_vdso" says ["could not be restored", "vDSO"],
    network_namespace: "netns" says ["net"],
    mount_namespace: "mntns" says ["mnt"],
    cgroup_namespace: "cgroupns" says ["cgroup"],
    user_namespace: "userns" says ["user"],
}

/// A process whose first thread has ended while others live on.
#[test]
fn zombie_leader() {
    let scene = Scene::new("zombie-leader");
    let task = scene.start("helpers/zombie_leader", &[]);
    let message = task.dump_call(&scene.path("images")).run().refused();
    assert!(message.contains(&format!("pid {}", task.pid())), "no pid in:\n{message}");
    assert!(message.contains("main thread has exited"), "no reason in:\n{message}");
    task.verify();
}

/// Several objects of several processes are all in one message.
#[test]
fn all_at_once() {
    let (pids, message) = refused(&["tcp", "inotify", "--", "io_uring", "udp"]);
    let expected = [
        (pids[0], "fd 3", "socket:["),
        (pids[0], "fd 4", "inotify"),
        (pids[1], "io_uring", "fd"),
        (pids[1], "socket:[", "fd"),
    ];
    for (pid, first, second) in expected {
        let pid = format!("pid {pid}");
        let found = message
            .lines()
            .any(|line| line.contains(&pid) && line.contains(first) && line.contains(second));
        assert!(found, "nothing about {first} {second} of {pid} in:\n{message}");
    }
}
