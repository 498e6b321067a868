//! libcriu(3), from the C header.

use super::roff::Page;
use crate::options::table;

const SYNOPSIS: &str = "\
#include <criu/criu.h>

cc prog.c $(pkg-config --cflags --libs criu)
cc -static prog.c $(pkg-config --static --cflags --libs criu)";

const DESCRIPTION: &str = "\
A program says what it wants with the setters and calls a verb: criu_dump(), criu_restore(), \
criu_restore_child(), criu_check() and others. The library needs nothing else installed.

criu_init_opts() comes first. The functions with local in their name take options of their own, \
made by criu_local_init_opts() and freed by criu_local_free_opts(); they are not listed where the \
other form says the same. All may be called from any thread. Strings are copied.

criu_dump() of the calling process returns 0 when the dump is complete, and once more, with 1, in \
every process that is restored from it.";

const RETURN: &str = "\
Setters that return int return 0, or a negative number for a value that cannot be. Verbs return 0 or \
what their text says, and a negative number on failure: -EBADE if the worker refused, -ECONNREFUSED \
and the like if it could not be reached, and with errno set to what it said. criu_last_error() has \
the whole message: what failed on which object, why, and what would help.";

const EXAMPLE: &str = "\
criu_init_opts();
criu_set_images_dir_fd(open(\"images\", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
criu_set_log_file(\"dump.log\");
criu_set_leave_running(true);
switch (criu_dump()) {
case 0:  /* dumped, and here we go on */
case 1:  /* restored, maybe days later */
default: fprintf(stderr, \"%s\\n\", criu_last_error());
}";

/// The page's source; `header` is the text of `criu.h`.
pub fn page(header: &str) -> String {
    let mut page = Page::new("LIBCRIU", "3", "Library Functions");
    page.section("Name");
    page.text("libcriu - checkpoint and restore of processes, from C");
    page.section("Synopsis");
    page.code(SYNOPSIS);
    page.section("Description");
    page.text(DESCRIPTION);
    let functions = functions(header);
    let (setters, others): (Vec<_>, Vec<_>) =
        functions.iter().filter(|function| !function.is_local_twin()).partition(|f| f.is_setter());
    page.section("Verbs and other functions");
    others.iter().for_each(|function| describe(&mut page, function));
    page.section("Options");
    page.text("Where the command line has the same option, it is named: see criu(8).");
    setters.iter().for_each(|function| describe(&mut page, function));
    page.section("Return value");
    page.text(RETURN);
    page.section("Example");
    page.code(EXAMPLE);
    page.section("See also");
    page.text("criu(8)");
    page.finish()
}

fn describe(page: &mut Page, function: &Function) {
    let option = match function.flag() {
        Some(flag) => format!("\nOption --{flag}."),
        None => String::new(),
    };
    page.item(&function.prototype, &format!("{}{option}", function.text));
}

/// A function of the header.
#[derive(Debug, PartialEq, Eq)]
struct Function {
    name: String,
    prototype: String,
    text: String,
}

impl Function {
    /// The form with options of its own, whose text only says so.
    fn is_local_twin(&self) -> bool {
        self.name.starts_with("criu_local_") && self.text.contains("options of their own")
    }

    fn is_setter(&self) -> bool {
        let name = self.name.trim_start_matches("criu_");
        table::rows().any(|row| row.setters.contains(&name))
    }

    /// The command line's name for it.
    fn flag(&self) -> Option<&'static str> {
        let name = self.name.trim_start_matches("criu_");
        let row = table::rows().find(|row| row.setters.contains(&name))?;
        row.long.first().copied()
    }
}

/// Comments of two stars, each with the declaration below it; what is no function is left out.
fn functions(header: &str) -> Vec<Function> {
    header.split("/**").skip(1).filter_map(function).collect()
}

fn function(block: &str) -> Option<Function> {
    let (comment, rest) = block.split_once("*/")?;
    let (declaration, _) = rest.split_once(';')?;
    let words: Vec<&str> = declaration.split_whitespace().collect();
    let prototype = words.join(" ").replace("( ", "(");
    if prototype.contains(['{', '#']) || prototype.starts_with("typedef") {
        return None;
    }
    let before = prototype.split_once('(')?.0;
    let name = before.rsplit([' ', '*']).next()?.to_owned();
    let lines = comment.lines().map(|line| line.trim().trim_start_matches('*').trim_start());
    let text: Vec<String> = lines.map(|line| line.replace('`', "")).collect();
    let text = text.join("\n").trim().replace("\n\n", "\n");
    name.starts_with("criu_").then_some(Function { name, prototype: format!("{prototype};"), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_with_their_text() {
        let header = "/**\n * A number.\n */\n#define X 1\n\n/**\n * Sets it.\n *\n * Twice `x`.\n */\n\
                      int criu_set_pid(struct criu_opts *opts,\n        int pid);\n\n\
                      /**\n * A thing.\n */\nstruct thing {\n int a;\n};\n";
        let expected = Function {
            name: "criu_set_pid".into(),
            prototype: "int criu_set_pid(struct criu_opts *opts, int pid);".into(),
            text: "Sets it.\nTwice x.".into(),
        };
        assert_eq!(functions(header), [expected]);
    }

    #[test]
    fn setters_name_their_option() {
        let header = "/**\n * X.\n */\nvoid criu_set_leave_running(bool leave_running);\n";
        let page = page(header).replace("\\-", "-");
        assert!(page.contains("X.\nOption --leave-running.\n"), "{page}");
    }
}
