//! How values pass between [`Options`], the RPC message and text, by type of value.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::super::values::Pair;
use super::{Argument, Given, Row};
use crate::error::{Error, Kind, Result, shown};

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

/// An argument that is required; it may be a name of any bytes.
pub(super) fn name(given: Given<'_>) -> Result<&OsStr> {
    match given {
        Given::Text(name) => Ok(name),
        _ => Err(bad("an argument is needed")),
    }
}

/// An argument that is required and has to be text.
pub(super) fn text(given: Given<'_>) -> Result<&str> {
    let name = name(given)?;
    name.to_str().ok_or_else(|| bad(format!("{} is no text", shown(name))))
}

/// A name out of a message.
pub(super) fn from_bytes(bytes: &[u8]) -> OsString {
    OsStr::from_bytes(bytes).to_owned()
}

/// A name for a message.
pub(super) fn to_bytes(name: &OsString) -> Vec<u8> {
    name.as_bytes().to_vec()
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
    let text = text(given)?;
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

/// A number of bytes, with `K`, `M` or `G` after it where wanted, and `B` or `iB` after that.
pub(super) fn size(given: Given<'_>) -> Result<u64> {
    let text = text(given)?.trim();
    let unit = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
    let digits = &text[..text.len() - unit.len()];
    let shift =
        match unit.trim_start().to_ascii_uppercase().trim_end_matches("IB").trim_end_matches('B') {
            "" => Some(0),
            "K" => Some(10),
            "M" => Some(20),
            "G" => Some(30),
            _ => None,
        };
    let bytes = digits.parse::<u64>().ok().zip(shift);
    bytes.and_then(|(number, shift)| number.checked_mul(1 << shift)).ok_or_else(|| {
        bad(format!("`{text}' is no number of bytes")).remedy("write one as 4096, 512K, 2M or 8G")
    })
}

/// Two names around `separator`.
pub(super) fn pair(given: Given<'_>, separator: u8) -> Result<Pair> {
    let name = name(given)?;
    let (first, second) = split(name, separator).ok_or_else(|| {
        let separator = char::from(separator);
        bad(format!("`{}' has no `{separator}' between its two parts", shown(name)))
    })?;
    Ok(Pair { first: first.to_owned(), second: second.to_owned() })
}

/// What stands before and after the first `separator`.
pub fn split(name: &OsStr, separator: u8) -> Option<(&OsStr, &OsStr)> {
    let bytes = name.as_bytes();
    let at = bytes.iter().position(|byte| *byte == separator)?;
    Some((OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(&bytes[at + 1..])))
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

/// A name, or none.
macro_rules! name {
    ($field:ident) => {
        Row {
            from_rpc: |message, options| {
                if let Some(said) = &message.$field {
                    options.$field = Some(access::from_bytes(said));
                }
                Ok(())
            },
            to_rpc: |options, message| {
                message.$field = options.$field.as_ref().map(access::to_bytes);
            },
            ..local_name!($field)
        }
    };
}

/// The same for a field that the RPC has none for.
macro_rules! local_name {
    ($field:ident) => {
        Row {
            name: stringify!($field),
            from_text: |given, options| {
                options.$field = Some(access::name(given)?.to_owned());
                Ok(())
            },
            asks: |options| options.$field.is_some(),
            ..access::EMPTY
        }
    };
}

/// Any number of names.
macro_rules! names {
    ($field:ident) => {
        Row {
            from_rpc: |message, options| {
                let said = message.$field.iter();
                options.$field.extend(said.map(|name| access::from_bytes(name)));
                Ok(())
            },
            to_rpc: |options, message| {
                message.$field = options.$field.iter().map(access::to_bytes).collect();
            },
            ..local_names!($field)
        }
    };
}

/// The same for a field that the RPC has none for.
macro_rules! local_names {
    ($field:ident) => {
        Row {
            name: stringify!($field),
            from_text: |given, options| {
                options.$field.push(access::name(given)?.to_owned());
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
                let text = access::text(given)?;
                let value = <$type>::from_text(text).ok_or_else(|| access::unknown(text, $what))?;
                options.$field = Some(value);
                Ok(())
            },
            asks: |options| options.$field.is_some(),
            ..access::EMPTY
        }
    };
}
