//! How values pass between [`Options`], the RPC message and text, by type of value.

use super::super::values::Pair;
use super::{Argument, Given, Row};
use crate::error::{Error, Kind, Result};

/// A row that passes no value yet; the makers below fill it.
pub(super) const EMPTY: Row = Row {
    name: "",
    rpc: &[],
    long: &[],
    short: None,
    argument: Argument::None,
    setters: &[],
    default: "",
    verbs: &[],
    honoured: &[],
    permits: (&[], ""),
    refused: "",
    except: None,
    help: "",
    from_rpc: |_, _| Ok(()),
    to_rpc: |_, _| (),
    from_text: |_, _| Ok(()),
    asks: |_| false,
};

/// The text of an argument that is required.
pub(super) fn required(given: Given<'_>) -> Result<&str> {
    match given {
        Given::Text(text) => Ok(text),
        _ => Err(bad("an argument is needed")),
    }
}

/// A bad value.
pub(super) fn bad(cause: impl Into<String>) -> Error {
    Error::new(Kind::BadOptions, cause)
}

/// A text that is none of a list.
pub(super) fn unknown(text: &str, list: &str) -> Error {
    bad(format!("`{text}' is not known")).remedy(format!("give one of: {list}"))
}

/// A number out of text, as strict as the type.
pub(super) fn number<T: Whole>(given: Given<'_>) -> Result<T> {
    let text = required(given)?;
    text.trim().parse().map_err(|_| {
        bad(format!("`{text}' is not a whole number from {} to {}", T::LEAST, T::MOST))
    })
}

/// A type of whole numbers.
pub(super) trait Whole: std::str::FromStr + std::fmt::Display {
    const LEAST: Self;
    const MOST: Self;
}

macro_rules! whole {
    ($($number:ty)*) => {
        $(impl Whole for $number {
            const LEAST: Self = Self::MIN;
            const MOST: Self = Self::MAX;
        })*
    };
}

whole! { i32 u16 u32 }

/// A number of bytes, with `K`, `M` or `G` after it where wanted.
pub(super) fn size(given: Given<'_>) -> Result<u32> {
    let text = required(given)?.trim();
    let (digits, shift) = match text.strip_suffix(['K', 'M', 'G', 'k', 'm', 'g']) {
        None => (text, 0),
        Some(digits) if text.ends_with(['K', 'k']) => (digits, 10),
        Some(digits) if text.ends_with(['M', 'm']) => (digits, 20),
        Some(digits) => (digits, 30),
    };
    let value = digits.parse::<u64>().ok().and_then(|value| value.checked_mul(1 << shift));
    value
        .and_then(|bytes| u32::try_from(bytes).ok())
        .ok_or_else(|| bad(format!("`{text}' is not a size below 4G")))
}

/// Two texts around `separator`.
pub(super) fn pair(given: Given<'_>, separator: char) -> Result<Pair> {
    let text = required(given)?;
    let (first, second) = text
        .split_once(separator)
        .ok_or_else(|| bad(format!("`{text}' has no `{separator}' between its two parts")))?;
    Ok(Pair { first: first.to_owned(), second: second.to_owned() })
}

/// A number that the message marks with a value out of the enum's range is a bad request.
pub(super) fn known<T>(
    value: Option<i32>,
    of: fn(i32) -> Option<T>,
    what: &str,
) -> Result<Option<T>> {
    let known = |number| of(number).ok_or_else(|| bad(format!("{what} {number} is not known")));
    value.map(known).transpose()
}

/// A yes or no; on the command line with its negation.
macro_rules! flag {
    ($field:ident) => {
        Row {
            name: stringify!($field),
            default: "no",
            from_rpc: |message, options| {
                options.$field = message.$field.or(options.$field);
                Ok(())
            },
            to_rpc: |options, message| message.$field = options.$field,
            ..local_flag!($field)
        }
    };
}

/// The same for a field that the RPC has none for.
macro_rules! local_flag {
    ($field:ident) => {
        Row {
            name: stringify!($field),
            default: "no",
            from_text: |given, options| {
                options.$field = Some(given != Given::No);
                Ok(())
            },
            asks: |options| options.$field(),
            ..access::EMPTY
        }
    };
}

/// A text, or none.
macro_rules! text {
    ($field:ident) => {
        Row {
            from_rpc: |message, options| {
                if message.$field.is_some() {
                    options.$field.clone_from(&message.$field);
                }
                Ok(())
            },
            to_rpc: |options, message| message.$field.clone_from(&options.$field),
            ..local_text!($field)
        }
    };
}

/// The same for a field that the RPC has none for.
macro_rules! local_text {
    ($field:ident) => {
        Row {
            name: stringify!($field),
            from_text: |given, options| {
                options.$field = Some(access::required(given)?.to_owned());
                Ok(())
            },
            asks: |options| options.$field.is_some(),
            ..access::EMPTY
        }
    };
}

/// Any number of texts.
macro_rules! texts {
    ($field:ident) => {
        Row {
            from_rpc: |message, options| {
                options.$field.extend_from_slice(&message.$field);
                Ok(())
            },
            to_rpc: |options, message| message.$field.clone_from(&options.$field),
            ..local_texts!($field)
        }
    };
}

/// The same for a field that the RPC has none for.
macro_rules! local_texts {
    ($field:ident) => {
        Row {
            name: stringify!($field),
            from_text: |given, options| {
                options.$field.push(access::required(given)?.to_owned());
                Ok(())
            },
            asks: |options| !options.$field.is_empty(),
            ..access::EMPTY
        }
    };
}

/// A number, read from text by `$parse`.
macro_rules! scalar {
    ($field:ident, $parse:expr) => {
        Row {
            name: stringify!($field),
            from_rpc: |message, options| {
                options.$field = message.$field.or(options.$field);
                Ok(())
            },
            to_rpc: |options, message| message.$field = options.$field,
            from_text: |given, options| {
                options.$field = Some($parse(given)?);
                Ok(())
            },
            asks: |options| options.$field.is_some(),
            ..access::EMPTY
        }
    };
}

/// One of a list of names; `$asks` is what differs from saying nothing.
macro_rules! choice {
    ($field:ident, $type:ty, $what:literal) => {
        Row {
            name: stringify!($field),
            from_text: |given, options| {
                let text = access::required(given)?;
                let value = <$type>::from_text(text).ok_or_else(|| access::unknown(text, $what))?;
                options.$field = Some(value);
                Ok(())
            },
            asks: |options| options.$field.is_some(),
            ..access::EMPTY
        }
    };
}
