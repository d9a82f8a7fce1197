//! The README's examples, as they stand there: a newcomer types them first.

use crate::shell::Shell;

/// The lines of the README that a shell is given.
fn examples() -> impl Iterator<Item = &'static str> {
    let readme = include_str!("../../README.md");
    readme
        .lines()
        .filter_map(|line| line.strip_prefix("$ fvd "))
}

#[test]
fn the_readme_s_examples_work_in_their_order() {
    let shell = Shell::new();
    for line in examples() {
        shell.ok(line);
    }
    assert!(examples().count() > 10, "the README lost its examples");
    shell.io("read -P 0xab 4k 64k; read -P 0x11 68k 956k; read -P 0 1M 64M");
    let alone = "io -r -c 'read -P 0xab 4k 64k' -c 'read -P 0x11 68k 956k' alone.fvd";
    shell.ok(alone);
}

#[test]
fn the_readme_names_every_verb() {
    let help = Shell::new().ok("--help");
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let verbs = commands.map_while(|line| line.split_whitespace().next());
    let verbs: Vec<&str> = verbs.collect();
    assert!(verbs.len() >= 7, "{help}");
    for verb in verbs {
        let told = examples().any(|line| line.starts_with(verb));
        assert!(told || verb == "demo", "no example of {verb}");
    }
}
