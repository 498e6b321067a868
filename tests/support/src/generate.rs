//! The tests that follow from the headers: for every state one test for each axis that it has.

use std::fmt::Write;

use super::header::{self, Header, User};

/// A directory of programs.
pub struct Family {
    pub name: String,
    /// The name of each program, and its text.
    pub sources: Vec<(String, String)>,
}

/// A way in which a state is tested.
struct Axis {
    /// The name of the test.
    name: &'static str,
    /// The same in `Axis` of the library.
    variant: &'static str,
    /// Whether a state has it.
    is_had: fn(&Header) -> bool,
    /// Whether a state may ask for it, with `also=`, or be without it, with `without=`. Otherwise it is
    /// a part of the default run wherever it can be.
    is_asked_for: bool,
}

const AXES: [Axis; 10] = [
    always("as_root", "AsRoot", |header| header.users.contains(&User::Root)),
    always("as_user", "AsUser", |header| header.users.contains(&User::Other)),
    asked("leave_running", "LeaveRunning", |_| true),
    asked("self_dump", "SelfDump", |_| true),
    asked("by_rpc", "ByRpc", |_| true),
    asked("set_user_id", "SetUserId", |header| !header.takes_root),
    always("to_criu", "ToCriu", |header| header.users.contains(&User::Root) && header.criu.1),
    always("from_criu", "FromCriu", |header| header.users.contains(&User::Root) && header.criu.0),
    always("to_criu_as_user", "ToCriuAsUser", |header| {
        header.users.contains(&User::Other) && header.criu_as_user.1
    }),
    always("from_criu_as_user", "FromCriuAsUser", |header| {
        header.users.contains(&User::Other) && header.criu_as_user.0
    }),
];

const fn always(name: &'static str, variant: &'static str, is_had: fn(&Header) -> bool) -> Axis {
    Axis { name, variant, is_had, is_asked_for: false }
}

const fn asked(name: &'static str, variant: &'static str, is_had: fn(&Header) -> bool) -> Axis {
    Axis { name, variant, is_had, is_asked_for: true }
}

/// The macro that makes the tests; or everything that is wrong with the programs.
pub fn tests(families: &[Family]) -> Result<String, Vec<String>> {
    let mut text = String::new();
    let mut complaints = Vec::new();
    for family in families {
        writeln!(text, "        mod {} {{", family.name).expect("memory");
        for (name, source) in &family.sources {
            match program(&family.name, name, source) {
                Ok(modules) => text.push_str(&modules),
                Err(wrong) => complaints.push(format!("{}/{name}.c: {wrong}", family.name)),
            }
        }
        text.push_str("        }\n");
    }
    if !complaints.is_empty() {
        return Err(complaints);
    }
    Ok(format!(
        "/// The tests of all states, each of which calls `$run` with a state and an axis.\n\
         #[macro_export]\nmacro_rules! state_tests {{\n    ($run:path) => {{\n{text}    }};\n}}\n"
    ))
}

/// One module for each state of a program.
fn program(family: &str, name: &str, source: &str) -> Result<String, String> {
    if !header::is_identifier(family) || !header::is_identifier(name) {
        return Err("names consist of small letters, digits and underscores".into());
    }
    let mut text = String::new();
    for header in header::parse(source)? {
        let asked = header.also.iter().chain(&header.without);
        for axis in asked {
            let known = AXES.iter().find(|known| known.is_asked_for && known.name == axis);
            if !known.is_some_and(|known| (known.is_had)(&header)) {
                return Err(format!("{axis} is no axis that can be asked for here"));
            }
        }
        let infix = if header.variant.is_empty() { "" } else { "_" };
        writeln!(text, "            mod {name}{infix}{} {{", header.variant).expect("memory");
        writeln!(
            text,
            "                const STATE: $crate::State = {};",
            state(family, name, &header)
        )
        .expect("memory");
        for axis in AXES.iter().filter(|axis| (axis.is_had)(&header)) {
            text.push_str(&test(axis, &header));
        }
        text.push_str("            }\n");
    }
    Ok(text)
}

fn state(family: &str, name: &str, header: &Header) -> String {
    format!(
        "$crate::State {{ program: \"{family}/{name}\", args: &{:?}, dump: &{:?}, \
         restore: &{:?}, runs_as_root: {}, takes_terminals: {} }}",
        header.args,
        header.dump_options,
        header.restore_options,
        header.users.contains(&User::Root),
        header.takes_terminals
    )
}

fn test(axis: &Axis, header: &Header) -> String {
    let is_in = |list: &[String]| list.iter().any(|name| name == axis.name);
    if is_in(&header.without) {
        return String::new();
    }
    let ignored = axis.is_asked_for && !is_in(&header.also);
    let attribute = if ignored { " #[ignore = \"not in the default run\"]" } else { "" };
    format!(
        "                #[test]{attribute} fn {}() {{ $run(&STATE, $crate::Axis::{}); }}\n",
        axis.name, axis.variant
    )
}
