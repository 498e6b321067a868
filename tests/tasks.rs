//! What belongs to a task: registers, signals, timers, credentials, limits, names.

mod common;

round_trips! { anybody:
    /// A process that does nothing but compute.
    busy,
}
