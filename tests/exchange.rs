//! Images go both ways between us and CRIU, where `CRIU_PEER` names its binary.

mod common;

use common::{Round, peer};

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

exchanges! {
    busy, registers, signals, timers, rseq, robust, filtered, limits, realtime, chrooted,
    threads, memory_private, memory_files, memory_shared, memory_cow, memory_special, regular,
    pipes, events, memfds, tree, crowd, open_file,
}

/// Terminals, in both directions; one after the other, because their numbers are needed.
#[test]
fn ptys() {
    let Some(peer) = peer() else { return };
    Round { restorer: peer.clone(), ..Round::of("ptys") }.run();
    Round { dumper: peer, ..Round::of("ptys") }.run();
}
