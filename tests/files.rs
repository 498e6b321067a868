//! What belongs to tables of descriptors.

mod common;

round_trips! { anybody:
    /// Regular files, directories, the usual devices, files without a name.
    regular,
    /// Tables that processes share.
    tables,
    /// Pipes and FIFOs.
    pipes,
    /// eventfd, signalfd, timerfd, epoll.
    events,
    /// memfd with its seals.
    memfds,
}
