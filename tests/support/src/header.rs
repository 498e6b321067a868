//! The header of a program: what its first comment says about how its state is tested.
//!
//! ```text
//! header  = "/*" { "state" [ " " VARIANT ] ":" { WORD } } "*/"
//! WORD    = KEY "=" VALUE { "," VALUE }
//! VALUE   = text without blanks, commas and parentheses, or "text", each with or without (REASON)
//! ```
//!
//! `tests/README.md` says what each key means. A program has a state, and may have more of them, each
//! with arguments of its own and a name.

/// Who runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    Root,
    /// A user without privileges.
    Other,
}

/// What one state is, in the words of its header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Empty for the one state of a program that has only one.
    pub variant: String,
    pub users: Vec<User>,
    /// Whether only root's engine can carry it; otherwise a user's own, with the set-user-ID bit.
    pub takes_root: bool,
    /// Whether CRIU can dump it, and restore it.
    pub criu: (bool, bool),
    /// The same where a user without privileges runs the program.
    pub criu_as_user: (bool, bool),
    /// Words of the command line of every dump.
    pub dump_options: Vec<String>,
    /// Words of the command line of every restore.
    pub restore_options: Vec<String>,
    /// Arguments of the program.
    pub args: Vec<String>,
    /// Axes of the default run, beside those that every state has there.
    pub also: Vec<String>,
    /// Axes that cannot be.
    pub without: Vec<String>,
    /// Whether terminals get their old numbers, so that no other test may open any meanwhile.
    pub takes_terminals: bool,
}

/// A value, and the reason in parentheses behind it.
type Value = (String, Option<String>);

/// The states of a program, or what is wrong with its header.
pub fn parse(source: &str) -> Result<Vec<Header>, String> {
    let comment = source.strip_prefix("/*").and_then(|rest| rest.split_once("*/"));
    let (comment, _) =
        comment.ok_or("the file does not begin with a comment `/* state: ... */`")?;
    let lines = comment.lines().map(|line| line.trim().trim_start_matches('*').trim());
    let mut texts: Vec<(String, String)> = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        match state_begins(line) {
            Some((variant, rest)) => texts.push((variant.to_owned(), rest.to_owned())),
            None => {
                let (_, text) =
                    texts.last_mut().ok_or("the first comment does not begin with `state:`")?;
                text.push(' ');
                text.push_str(line);
            }
        }
    }
    if texts.is_empty() {
        return Err("the first comment is empty".into());
    }
    texts.into_iter().map(|(variant, text)| header(variant, &text)).collect()
}

/// The variant and the words of a line that begins a state.
fn state_begins(line: &str) -> Option<(&str, &str)> {
    let (head, rest) = line.strip_prefix("state")?.split_once(':')?;
    let variant = head.trim();
    let named = head.starts_with(' ') && is_identifier(variant);
    (variant.is_empty() || named).then_some((variant, rest))
}

fn header(variant: String, text: &str) -> Result<Header, String> {
    let mut header = Header { variant, ..Header::default() };
    let mut seen: Vec<String> = Vec::new();
    for (key, values) in words(text)? {
        if seen.contains(&key) {
            return Err(format!("{key}= stands there twice"));
        }
        header.set(&key, &values).map_err(|wrong| format!("{key}={}: {wrong}", shown(&values)))?;
        seen.push(key);
    }
    for key in ["users", "privilege", "criu"] {
        if !seen.iter().any(|seen| seen == key) {
            return Err(format!("{key}= is missing"));
        }
    }
    if !seen.iter().any(|seen| seen == "criu-as-user") {
        header.criu_as_user = header.criu;
    }
    if !header.takes_root && !header.users.contains(&User::Other) {
        return Err("privilege=none is about a user, who is not among users=".into());
    }
    Ok(header)
}

fn shown(values: &[Value]) -> String {
    values.iter().map(|(value, _)| value.as_str()).collect::<Vec<_>>().join(",")
}

impl Header {
    fn set(&mut self, key: &str, values: &[Value]) -> Result<(), String> {
        let texts = || values.iter().map(|(value, _)| value.clone()).collect::<Vec<_>>();
        match key {
            "users" => self.users = values.iter().map(user).collect::<Result<_, _>>()?,
            "privilege" => {
                self.takes_root = match one(values)? {
                    ("root", _) => true,
                    ("none", None) => false,
                    _ => return Err("it is none or root".into()),
                };
            }
            "criu" => self.criu = criu(values)?,
            "criu-as-user" => self.criu_as_user = criu(values)?,
            "dump-options" => self.dump_options = texts(),
            "restore-options" => self.restore_options = texts(),
            "args" => self.args = texts(),
            "also" => self.also = texts(),
            "without" => {
                if values.iter().any(|(_, reason)| reason.is_none()) {
                    return Err("the reason is missing, in parentheses".into());
                }
                self.without = texts();
            }
            "takes" => match one(values)? {
                ("terminals", None) => self.takes_terminals = true,
                _ => return Err("it is terminals".into()),
            },
            _ => return Err("there is no such key".into()),
        }
        Ok(())
    }
}

fn one(values: &[Value]) -> Result<(&str, Option<&str>), String> {
    match values {
        [(value, reason)] => Ok((value, reason.as_deref())),
        _ => Err("it has one value".into()),
    }
}

fn user((name, _): &Value) -> Result<User, String> {
    match name.as_str() {
        "root" => Ok(User::Root),
        "user" => Ok(User::Other),
        _ => Err("users are root and user".into()),
    }
}

/// Whether CRIU dumps it, and restores it.
fn criu(values: &[Value]) -> Result<(bool, bool), String> {
    match one(values)? {
        ("both", None) => Ok((true, true)),
        ("dump", Some(_)) => Ok((true, false)),
        ("restore", Some(_)) => Ok((false, true)),
        ("no", Some(_)) => Ok((false, false)),
        ("dump" | "restore" | "no", None) => Err("the reason is missing, in parentheses".into()),
        _ => Err("it is both, dump, restore or no".into()),
    }
}

/// Whether a module of the tests can be called so.
pub fn is_identifier(name: &str) -> bool {
    let legal =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    name.starts_with(|first: char| first.is_ascii_lowercase()) && name.chars().all(legal)
}

/// Keys with their values.
fn words(text: &str) -> Result<Vec<(String, Vec<Value>)>, String> {
    let mut rest = text.trim_start();
    let mut words = Vec::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(|| format!("`{rest}` has no `=`"))?;
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(format!("`{key}` is no key"));
        }
        let (values, after) = list(after).map_err(|wrong| format!("{key}=: {wrong}"))?;
        words.push((key.to_owned(), values));
        rest = after.trim_start();
    }
    Ok(words)
}

/// Values up to a blank, and what follows.
fn list(mut rest: &str) -> Result<(Vec<Value>, &str), String> {
    let mut values = Vec::new();
    loop {
        let (value, after) = value(rest)?;
        let (reason, after) = reason(after)?;
        values.push((value, reason));
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after.is_empty() || after.starts_with(char::is_whitespace) => {
                return Ok((values, after));
            }
            None => return Err(format!("`{after}` follows a value")),
        }
    }
}

fn value(text: &str) -> Result<(String, &str), String> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (value, after) = quoted.split_once('"').ok_or("a quotation mark is missing")?;
        return Ok((value.to_owned(), after));
    }
    let ends = |letter: char| letter.is_whitespace() || matches!(letter, ',' | '(' | ')');
    let (value, after) = text.split_at(text.find(ends).unwrap_or(text.len()));
    if value.is_empty() {
        return Err("a value is missing".into());
    }
    Ok((value.to_owned(), after))
}

fn reason(text: &str) -> Result<(Option<String>, &str), String> {
    let Some(text) = text.strip_prefix('(') else { return Ok((None, text)) };
    let (reason, after) = text.split_once(')').ok_or("a parenthesis is not closed")?;
    if reason.trim().is_empty() {
        return Err("a reason is empty".into());
    }
    Ok((Some(reason.to_owned()), after))
}
