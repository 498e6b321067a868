//! `--json`: one object on standard output, whatever the command came to.

pub use serde_json::Value;

use crate::error::Error;

/// An object with these fields, in this order.
pub fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// What went wrong.
pub fn error(error: &Error) -> Value {
    object([
        ("kind", format!("{:?}", error.kind()).into()),
        ("errno", error.errno().map(|errno| format!("{errno:?}")).into()),
        ("message", error.to_string().into()),
    ])
}

/// The result of `command` that failed.
pub fn failure(command: &str, cause: &Error) -> Value {
    object([("command", command.into()), ("success", false.into()), ("error", error(cause))])
}
