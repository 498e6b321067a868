//! The few bytes of machine code that run a batch in a blank.
//!
//! ```text
//! next: mov rax,[rbx]      ; number
//!       mov rdi,[rbx+8]    ; six arguments
//!       ...
//!       syscall
//!       mov [rbx+56],rax   ; result
//!       add rbx,64
//!       jmp next
//! ```
//!
//! The loop has no end: the last entry of every batch parks the thread or ends it.

/// The stub, position independent; `rbx` points to the first entry.
#[rustfmt::skip]
pub(super) const STUB: [u8; 39] = [
    0x48, 0x8b, 0x03,               // mov rax,[rbx]
    0x48, 0x8b, 0x7b, 0x08,         // mov rdi,[rbx+8]
    0x48, 0x8b, 0x73, 0x10,         // mov rsi,[rbx+16]
    0x48, 0x8b, 0x53, 0x18,         // mov rdx,[rbx+24]
    0x4c, 0x8b, 0x53, 0x20,         // mov r10,[rbx+32]
    0x4c, 0x8b, 0x43, 0x28,         // mov r8,[rbx+40]
    0x4c, 0x8b, 0x4b, 0x30,         // mov r9,[rbx+48]
    0x0f, 0x05,                     // syscall
    0x48, 0x89, 0x43, 0x38,         // mov [rbx+56],rax
    0x48, 0x83, 0xc3, 0x40,         // add rbx,64
    0xeb, 0xd9,                     // jmp -39
];

/// Where the stub's `syscall` instruction is.
pub(super) const SYSCALL_AT: u64 = 27;

/// Where entries begin, counted from the start of the helper area.
pub(super) const ENTRIES_AT: usize = 64;

const _: () = assert!(STUB.len() <= ENTRIES_AT);
