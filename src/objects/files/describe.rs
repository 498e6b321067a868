//! What an open file is, for people.

use super::refused;
use super::registry::kind_of;
use crate::images::snapshot::Snapshot;

/// An open file in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// A word for its kind.
    pub kind: &'static str,
    /// Whether it is listed among the sockets.
    pub is_socket: bool,
    /// `r`, `w`, `rw` or `path`; empty for kinds that are always opened alike.
    pub access: &'static str,
    /// Its name; empty if it has none.
    pub name: String,
    /// Its state, in words; empty if there is nothing to say.
    pub details: String,
}

impl Description {
    /// The description of a file with this name.
    pub(super) fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The description of a file in this state.
    pub(super) fn saying(details: impl Into<String>) -> Self {
        Self::default().and_saying(details)
    }

    /// Adds the state of the file.
    pub(super) fn and_saying(self, details: impl Into<String>) -> Self {
        Self { details: details.into(), ..self }
    }

    /// Adds how the file was opened.
    pub(super) fn opened_with(self, flags: u32) -> Self {
        let flags = flags.cast_signed();
        let access = match flags & libc::O_ACCMODE {
            _ if flags & libc::O_PATH != 0 => "path",
            libc::O_RDONLY => "r",
            libc::O_WRONLY => "w",
            _ => "rw",
        };
        Self { access, ..self }
    }

    /// Name and state.
    pub fn text(&self) -> String {
        let parts = [self.name.as_str(), self.details.as_str()];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join(", ")
    }
}

/// Describes the file `id`, which may not be there.
pub fn describe(all: &Snapshot, id: u32) -> Description {
    let Some(file) = all.files.get(&id) else {
        return Description { kind: "missing", ..Description::named(format!("file {id}")) };
    };
    match kind_of(file) {
        Some(kind) => (kind.describe)(file, all),
        None => refused::describe(file),
    }
}

/// A word for a type of socket.
pub(super) fn socket_type(kind: u32) -> &'static str {
    match kind.cast_signed() {
        libc::SOCK_STREAM => "stream",
        libc::SOCK_DGRAM => "datagram",
        libc::SOCK_RAW => "raw",
        libc::SOCK_SEQPACKET => "seqpacket",
        _ => "socket of an unknown type",
    }
}
