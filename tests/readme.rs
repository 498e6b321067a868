//! README shows the example that `make demo` runs.

#[test]
fn readme_shows_the_example_as_it_is() {
    let readme = include_str!("../README.md");
    let shown = readme.split("```c\n").nth(1).and_then(|rest| rest.split("```").next());
    assert_eq!(
        shown,
        Some(include_str!("../examples/self-dump.c")),
        "copy the example to README.md"
    );
}
