//! Help, wrong uses and failures: what is told, and with which exit code.

use crate::shell::Shell;

#[test]
fn what_can_be_given_is_listed_with_type_help_and_default() {
    let shell = Shell::new();
    for line in ["create -o help", "convert -Oraw -ohelp"] {
        let text = shell.ok(line);
        for part in [
            "chunk_size=",
            "unit of allocation",
            "default: 1M",
            "suffix K, M, G, T",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
    let text = shell.ok("update help");
    assert!(
        text.contains("prefetch_perf_calc_alpha=") && text.contains("size="),
        "{text}"
    );
}

#[test]
fn wrong_uses_exit_with_2_and_name_the_argument() {
    let shell = Shell::new();
    shell.ok("create disk.fvd 1M");
    for (line, named) in [
        ("", "Usage"),
        ("explode", "explode"),
        ("create", "FILE"),
        ("create -o compact_image=on", "FILE"),
        ("create x.fvd", "SIZE"),
        ("create x.fvd 1Q", "1Q"),
        ("create -F raw x.fvd 1M", "-b"),
        ("create -o colour=red x.fvd 1M", "colour"),
        ("create -o chunk_size=blue x.fvd 1M", "chunk_size"),
        ("create --cache=none x.fvd 1M", "--cache"),
        ("info", "FILE"),
        ("info --follow=everywhere disk.fvd", "everywhere"),
        ("convert disk.fvd x", "-O"),
        ("convert -O qcow2 disk.fvd x", "qcow2"),
        ("convert -O raw disk.fvd", "DST"),
        ("convert -O raw -o compact_image=on disk.fvd x", "-o"),
        (
            "convert -O fvd -o backing_file=b disk.fvd x",
            "backing_file",
        ),
        ("convert -O fvd -o size=512 disk.fvd x", "size"),
        ("update disk.fvd", "NAME=VALUE"),
        ("update disk.fvd colour=red", "colour"),
        ("map", "FILE"),
        ("io disk.fvd", "-c"),
        ("io -c 'erase 0 512' disk.fvd", "erase"),
        ("io --cache=sometimes -c flush disk.fvd", "sometimes"),
    ] {
        shell.fails(2, line, named);
    }
    assert!(!shell.path("x.fvd").exists() && !shell.path("x").exists());
}

#[test]
fn what_does_not_work_exits_with_1_and_names_the_file() {
    let shell = Shell::new();
    shell.write("plain", &[1; 8192]);
    for line in [
        "info none.fvd",
        "map none.fvd",
        "update none.fvd size=1M",
        "io -c flush none.fvd",
        "convert -O raw none.fvd x",
        "create -b none.fvd x.fvd 1M",
    ] {
        shell.fails(1, line, "none.fvd");
    }
    shell.fails(1, "info plain", "not an FVD image");
    shell.fails(1, "create no/such/folder.fvd 1M", "no/such/folder.fvd");
    shell.fails(1, "create -F qcow2 -b plain x.fvd 1M", "qcow2");
}

#[test]
fn nobody_is_hurt_when_the_reader_of_the_output_goes_away() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut fvd = Shell::new().command("create -o help");
    let output = fvd.current_dir("/").stdout(writer).output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}
