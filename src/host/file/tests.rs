//! What the host of real files promises, each promise on its own.

use std::ffi::CString;
use std::os::unix::fs::symlink;
use std::path::Path;

use libc::iovec;
use tempfile::TempDir;

use super::*;
use crate::host::{Access, IoVecs, Role};

fn request(path: &Path, access: Access) -> OpenRequest {
    let name = path.to_str().unwrap().to_owned();
    OpenRequest {
        role: Role::Metadata,
        name,
        beneath: None,
        access,
    }
}

fn open(host: &FileHost, path: &Path, access: Access) -> OpenedFile {
    host.open(&request(path, access)).unwrap()
}

/// Submits one operation and polls for its answer.
fn run(host: &FileHost, file: FileId, kind: OpKind) -> i64 {
    host.submit(Operation {
        token: Token(7),
        file,
        kind,
    });
    let mut answers = Vec::new();
    assert!(host.poll(None, &mut |token, returned| answers.push((token, returned))));
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].0, Token(7));
    answers[0].1
}

/// Writes `bytes` in pieces of at most `piece` bytes.
fn write(host: &FileHost, file: FileId, offset: u64, bytes: &[u8], piece: usize) -> i64 {
    let as_iovec = |part: &[u8]| iovec {
        iov_base: part.as_ptr().cast_mut().cast(),
        iov_len: part.len(),
    };
    let list: Vec<iovec> = bytes.chunks(piece).map(as_iovec).collect();
    // SAFETY: list and bytes outlive the operation, which is over when `run` returns; a write only
    // reads them.
    let iov = unsafe { IoVecs::from_raw(list.as_ptr(), list.len()) };
    run(host, file, OpKind::Write { offset, iov })
}

/// Reads `len` bytes in pieces; the count, and the bytes.
fn read(host: &FileHost, file: FileId, offset: u64, len: usize, piece: usize) -> (i64, Vec<u8>) {
    let mut bytes = vec![0; len];
    let as_iovec = |part: &mut [u8]| iovec {
        iov_base: part.as_mut_ptr().cast(),
        iov_len: part.len(),
    };
    let list: Vec<iovec> = bytes.chunks_mut(piece).map(as_iovec).collect();
    // SAFETY: list and bytes outlive the operation, which is over when `run` returns, and nobody
    // else uses them meanwhile.
    let iov = unsafe { IoVecs::from_raw(list.as_ptr(), list.len()) };
    let returned = run(host, file, OpKind::Read { offset, iov });
    (returned, bytes)
}

#[test]
fn a_list_longer_than_the_kernel_takes_is_transferred_whole() {
    let folder = TempDir::new().unwrap();
    let host = FileHost::keeping_messages();
    let file = open(&host, &folder.path().join("f"), Access::Create).id;
    let bytes: Vec<u8> = (0..3000 * 7).map(|i| (i % 251) as u8).collect();
    assert_eq!(write(&host, file, 5, &bytes, 7), 21_000);
    assert_eq!(read(&host, file, 5, bytes.len(), 11), (21_000, bytes));
}

#[test]
fn a_read_past_the_end_counts_what_is_there() {
    let folder = TempDir::new().unwrap();
    let host = FileHost::keeping_messages();
    let file = open(&host, &folder.path().join("f"), Access::Create).id;
    assert_eq!(write(&host, file, 0, &[9; 700], 700), 700);
    let (returned, bytes) = read(&host, file, 512, 512, 100);
    assert_eq!(returned, 188);
    assert_eq!(&bytes[..188], &[9; 188]);
    assert_eq!(read(&host, file, 4096, 512, 512).0, 0);
}

#[test]
fn answers_are_given_once_and_those_of_a_poll_wait_for_the_next() {
    let folder = TempDir::new().unwrap();
    let host = FileHost::keeping_messages();
    let file = open(&host, &folder.path().join("f"), Access::Create).id;
    let flush = |token| Operation {
        token: Token(token),
        file,
        kind: OpKind::Flush,
    };
    host.submit(flush(1));
    let mut seen = Vec::new();
    assert!(host.poll(None, &mut |token, _| {
        seen.push(token.0);
        host.submit(flush(2));
    }));
    assert_eq!(seen, [1]);
    assert!(host.poll(None, &mut |token, _| seen.push(token.0)));
    assert_eq!(seen, [1, 2]);
    assert!(!host.poll(None, &mut |_, _| panic!("nothing is left")));
}

#[test]
fn a_new_name_is_made_durable_by_the_first_flush() {
    let folder = TempDir::new().unwrap();
    let host = FileHost::keeping_messages();
    let file = open(&host, &folder.path().join("f"), Access::Create).id;
    let unsynced = || {
        host.files.borrow()[&file]
            .folder
            .as_ref()
            .unwrap()
            .synced
            .get()
            .is_none()
    };
    assert!(unsynced());
    assert_eq!(run(&host, file, OpKind::Flush), 0);
    assert!(!unsynced());
}

#[test]
fn a_writer_is_alone_readers_are_many_and_a_look_is_always_allowed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("f");
    let host = FileHost::keeping_messages();
    let busy = |access| {
        let error = host.open(&request(&path, access)).unwrap_err();
        assert_eq!(error.errno, libc::EBUSY);
        assert!(error.message.contains("fuser -v"), "{}", error.message);
    };
    let writer = open(&host, &path, Access::Create).id;
    busy(Access::ReadWrite);
    busy(Access::ReadOnly);
    host.close(open(&host, &path, Access::ReadUnlocked).id);
    busy(Access::ReadWrite);
    host.close(writer);
    let readers = [
        open(&host, &path, Access::ReadOnly).id,
        open(&host, &path, Access::ReadOnly).id,
    ];
    busy(Access::ReadWrite);
    readers.into_iter().for_each(|id| host.close(id));
    open(&host, &path, Access::ReadWrite);
}

#[test]
fn a_lock_ends_with_its_file_even_where_a_child_still_holds_the_descriptor() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("f");
    let host = FileHost::keeping_messages();
    let writer = open(&host, &path, Access::Create).id;
    let inherited = host.files.borrow()[&writer].file.try_clone().unwrap();
    host.close(writer);
    open(&host, &path, Access::ReadWrite);
    drop(inherited);
}

#[test]
fn creating_over_a_file_in_use_is_refused_and_leaves_its_content() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("f");
    std::fs::write(&path, b"precious").unwrap();
    let host = FileHost::keeping_messages();
    let reader = open(&host, &path, Access::ReadOnly).id;
    assert_eq!(
        host.open(&request(&path, Access::Create))
            .unwrap_err()
            .errno,
        libc::EBUSY
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    host.close(reader);
    assert_eq!(open(&host, &path, Access::Create).length, 0);
}

#[test]
fn a_name_from_an_image_does_not_leave_its_folder() {
    let outside = TempDir::new().unwrap();
    let folder = outside.path().join("images");
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    for file in [
        outside.path().join("secret"),
        folder.join("base"),
        folder.join("sub/base"),
    ] {
        std::fs::write(file, b"x").unwrap();
    }
    symlink(outside.path().join("secret"), folder.join("link")).unwrap();
    symlink(outside.path(), folder.join("way-out")).unwrap();
    let host = FileHost::keeping_messages();
    let try_open = |name: &str| {
        let mut request = request(&folder.join(name), Access::ReadOnly);
        request.beneath = Some(folder.to_str().unwrap().to_owned());
        host.open(&request)
            .map_err(|error| (error.errno, error.message))
    };
    assert!(try_open("base").is_ok());
    assert!(try_open("./sub/base").is_ok());
    for name in [
        "../secret",
        "link",
        "way-out/secret",
        "sub/../../secret",
        "/etc/passwd",
    ] {
        let (errno, message) = try_open(name).unwrap_err();
        assert_eq!(errno, libc::EPERM, "{name}: {message}");
        assert!(
            message.contains(name) && message.contains("follow=any"),
            "{message}"
        );
    }
    assert_eq!(try_open("nothing").unwrap_err().0, libc::ENOENT);
}

#[test]
fn a_pipe_is_refused_without_waiting_for_its_other_end() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pipe");
    let name = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the name ends with NUL and outlives the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let host = FileHost::keeping_messages();
    let error = host.open(&request(&path, Access::ReadOnly)).unwrap_err();
    assert!(
        error
            .message
            .contains("neither a regular file nor a block device"),
        "{error}"
    );
}

#[test]
fn truncating_cuts_and_extends_with_zeros() {
    let folder = TempDir::new().unwrap();
    let host = FileHost::keeping_messages();
    let file = open(&host, &folder.path().join("f"), Access::Create).id;
    write(&host, file, 0, &[1; 100], 100);
    assert_eq!(run(&host, file, OpKind::Truncate { len: 10 }), 0);
    assert_eq!(run(&host, file, OpKind::Truncate { len: 20 }), 0);
    let expected = [&[1; 10][..], &[0; 10], &[0; 10]].concat();
    assert_eq!(read(&host, file, 0, 30, 30), (20, expected));
    assert_eq!(
        run(&host, file, OpKind::Grow { len: 1 << 20 }),
        -i64::from(libc::ENOTSUP)
    );
}

#[test]
fn errors_are_answers_too() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("f");
    std::fs::write(&path, [0; 512]).unwrap();
    let host = FileHost::keeping_messages();
    let file = open(&host, &path, Access::ReadOnly).id;
    assert_eq!(
        write(&host, file, 0, &[1; 512], 512),
        -i64::from(libc::EBADF)
    );
    assert_eq!(
        read(&host, file, u64::MAX - 512, 512, 512).0,
        -i64::from(libc::EFBIG)
    );
    host.close(file);
    assert_eq!(run(&host, file, OpKind::Flush), -i64::from(libc::EBADF));
    let missing = host
        .open(&request(&folder.path().join("none"), Access::ReadOnly))
        .unwrap_err();
    assert_eq!(missing.errno, libc::ENOENT);
    assert!(
        missing.message.ends_with("No such file or directory"),
        "{missing}"
    );
}
