//! The C face, from C: each program in `c-tests/` is compiled against `include/fvd.h`, linked with
//! the static library, and run. Exit code 0: passed; 77: it cannot run here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// What `rustc --print native-static-libs` says that the static library needs.
const SYSTEM_LIBRARIES: &[&str] = &["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl"];

const STRICT: &[&str] = &[
    "-std=c99",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Werror",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The static library that was built for these tests.
fn static_library() -> PathBuf {
    let deps = std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .to_owned();
    let library = deps.join("libfvd.a");
    assert!(library.exists(), "cargo builds {}", library.display());
    library
}

fn compile(compiler: &str, arguments: &[&str], output: Option<&Path>) {
    let mut command = Command::new(compiler);
    command
        .arg("-I")
        .arg(root().join("include"))
        .args(arguments);
    match output {
        Some(path) => command
            .arg(static_library())
            .args(SYSTEM_LIBRARIES)
            .arg("-o")
            .arg(path),
        None => command.arg("-fsyntax-only"),
    };
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}");
}

fn run(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join(name);
    let source = root().join("c-tests").join(name).with_extension("c");
    let arguments = [STRICT, &["-g", source.to_str().unwrap()]].concat();
    compile("cc", &arguments, Some(&program));
    let output = Command::new(&program).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{name}: {:?}\n{text}",
        output.status
    );
}

#[test]
fn life() {
    run("life");
}

#[test]
fn the_header_stands_alone_twice_and_in_cpp() {
    let header = root().join("include/fvd.h");
    let header = header.to_str().unwrap();
    let once = [STRICT, &["-x", "c", header]].concat();
    compile("cc", &once, None);
    let twice = [STRICT, &["-include", header, "-x", "c", header]].concat();
    compile("cc", &twice, None);
    compile(
        "c++",
        &["-Wall", "-Wextra", "-Werror", "-x", "c++", header],
        None,
    );
}
