//! Headers and the tests that follow from them.

use super::generate::{Family, tests};
use super::header::{Header, User, parse};

fn one(header: &str) -> Header {
    let mut headers = parse(&format!("/* {header} */\nint main;\n")).expect(header);
    assert_eq!(headers.len(), 1);
    headers.remove(0)
}

#[track_caller]
fn refused(header: &str, words: &str) {
    let wrong = parse(&format!("/* {header} */\n")).expect_err(header);
    assert!(wrong.contains(words), "{wrong}");
}

#[test]
fn a_header_says_who_and_how() {
    let header = one("state: users=root,user privilege=none criu=both");
    assert_eq!(header.users, [User::Root, User::Other]);
    assert!(!header.takes_root && !header.takes_terminals && header.variant.is_empty());
    assert_eq!((header.criu, header.criu_as_user), ((true, true), (true, true)));
    let header =
        one("state: users=root privilege=root criu=dump(it is not exact) takes=terminals \
         args=a,\"two words\" dump-options=--file-locks,-v restore-options=-x \
         also=by_rpc without=self_dump(the root is stopped)");
    assert!(header.takes_root && header.takes_terminals);
    assert_eq!(header.criu, (true, false));
    assert_eq!(header.args, ["a", "two words"]);
    assert_eq!(header.dump_options, ["--file-locks", "-v"]);
    assert_eq!(header.restore_options, ["-x"]);
    assert_eq!((header.also, header.without), (vec!["by_rpc".into()], vec!["self_dump".into()]));
    let header = one("state: users=root privilege=root criu=restore(a) criu-as-user=no(b)");
    assert_eq!((header.criu, header.criu_as_user), ((false, true), (false, false)));
}

#[test]
fn a_program_may_have_several_states() {
    let text = "/*\n * state: users=root privilege=root\n *   criu=both\n * state more: \
                users=root privilege=root criu=both args=more\n */\n";
    let headers = parse(text).expect("two states");
    let variants: Vec<&str> = headers.iter().map(|header| header.variant.as_str()).collect();
    assert_eq!(variants, ["", "more"]);
    assert_eq!((headers[0].criu, &headers[1].args[..]), ((true, true), &["more".to_owned()][..]));
}

#[test]
fn what_is_wrong_is_said() {
    assert!(parse("int main;").expect_err("no comment").contains("does not begin with a comment"));
    refused("A program.", "does not begin with `state:`");
    refused("state: users=root privilege=root", "criu= is missing");
    refused(
        "state: users=nobody privilege=root criu=both",
        "users=nobody: users are root and user",
    );
    refused("state: users=root privilege=some criu=both", "it is none or root");
    refused("state: users=root privilege=none criu=both", "a user, who is not among users=");
    refused("state: users=root privilege=root criu=no", "the reason is missing");
    refused("state: users=root privilege=root criu=no()", "a reason is empty");
    refused("state: users=root privilege=root criu=no(a", "a parenthesis is not closed");
    refused("state: users=root privilege=root criu=both without=by_rpc", "the reason is missing");
    refused("state: users=root privilege=root criu=both color=red", "there is no such key");
    refused("state: users=root users=root", "users= stands there twice");
    refused("state: users=root, privilege=root", "a value is missing");
    refused("state: users=\"root", "a quotation mark is missing");
    refused("state: users", "has no `=`");
}

fn generated(header: &str) -> Result<String, Vec<String>> {
    let source = ("thing".to_owned(), format!("/* {header} */\n"));
    tests(&[Family { name: "kinds".into(), sources: vec![source] }])
}

/// The lines of the tests, without what each calls.
fn lines(header: &str) -> Vec<String> {
    let text = generated(header).expect(header);
    let tests = text.lines().filter_map(|line| line.trim().strip_prefix("#[test]"));
    tests.map(|line| line.split("()").next().unwrap_or(line).trim().to_owned()).collect()
}

#[test]
fn tests_follow_from_headers() {
    let ignored = "#[ignore = \"not in the default run\"]";
    assert_eq!(
        lines("state: users=root,user privilege=none criu=both also=by_rpc without=self_dump(why)"),
        [
            "fn as_root",
            "fn as_user",
            &format!("{ignored} fn leave_running"),
            "fn by_rpc",
            &format!("{ignored} fn set_user_id"),
            "fn to_criu",
            "fn from_criu",
            "fn to_criu_as_user",
            "fn from_criu_as_user",
        ]
    );
    assert_eq!(
        lines(
            "state: users=user privilege=root criu=dump(why) without=leave_running(why),by_rpc(why)"
        ),
        ["fn as_user", &format!("{ignored} fn self_dump"), "fn from_criu_as_user"]
    );
}

#[test]
fn a_test_knows_its_state() {
    let text = generated("state two: users=root privilege=root criu=both args=a dump-options=-x");
    let text = text.expect("a state");
    for words in [
        "mod kinds {",
        "mod thing_two {",
        "program: \"kinds/thing\", args: &[\"a\"], dump: &[\"-x\"], restore: &[]",
        "fn as_root() { $run(&STATE, $crate::Axis::AsRoot); }",
    ] {
        assert!(text.contains(words), "{words} is not in\n{text}");
    }
}

#[test]
fn an_axis_that_a_state_cannot_have_is_refused() {
    let states = [
        "state: users=root privilege=root criu=both also=set_user_id",
        "state: users=root privilege=root criu=both also=as_root",
        "state: users=root privilege=root criu=both without=to_criu(why)",
        "state: users=root privilege=root criu=both also=nothing",
    ];
    for state in states {
        let complaints = generated(state).expect_err(state);
        assert!(complaints[0].starts_with("kinds/thing.c: "), "{complaints:?}");
        assert!(complaints[0].contains("is no axis"), "{complaints:?}");
    }
}
