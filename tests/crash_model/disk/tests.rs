//! The disk below the library, in small stories.

use super::*;

fn disk() -> Disk {
    Disk::new(vec![Rc::new(File::new("image", 2, 4))])
}

fn write(disk: &mut Disk, first: usize, write: u32) {
    disk.submit(
        0,
        Action::Write {
            first,
            contents: vec![Content::pattern(write, 0)],
        },
    );
}

fn end(disk: &mut Disk, at: usize) {
    disk.complete(at, Ending::Good);
}

fn survivors(disk: &Disk, sector: usize) -> Vec<String> {
    disk.files[0].sectors[sector]
        .survivors()
        .map(|c| c.to_string())
        .collect()
}

#[test]
fn a_flush_makes_durable_what_had_completed_when_it_was_submitted() {
    let mut disk = disk();
    write(&mut disk, 0, 1);
    end(&mut disk, 0);
    write(&mut disk, 0, 2);
    disk.submit(0, Action::Flush);
    end(&mut disk, 0);
    assert_eq!(survivors(&disk, 0), ["zeros", "w1:0", "w2:0"]);
    end(&mut disk, 0);
    assert_eq!(survivors(&disk, 0), ["w1:0", "w2:0"]);
}

#[test]
fn what_a_failed_flush_kept_is_saved_only_by_another_write() {
    let mut disk = disk();
    write(&mut disk, 0, 1);
    end(&mut disk, 0);
    disk.submit(0, Action::Flush);
    disk.complete(0, Ending::PagesKept);
    disk.submit(0, Action::Flush);
    end(&mut disk, 0);
    assert_eq!(survivors(&disk, 0), ["zeros", "w1:0"]);
    write(&mut disk, 0, 2);
    end(&mut disk, 0);
    disk.submit(0, Action::Flush);
    end(&mut disk, 0);
    assert_eq!(survivors(&disk, 0), ["w2:0"]);
}

#[test]
fn a_failed_flush_may_drop_pages_but_not_what_the_file_system_knows() {
    let mut disk = disk();
    write(&mut disk, 0, 1);
    end(&mut disk, 0);
    disk.submit(0, Action::Truncate { length: 1 });
    end(&mut disk, 0);
    disk.submit(0, Action::Flush);
    disk.complete(0, Ending::PagesDropped);
    assert_eq!(survivors(&disk, 0), ["zeros"]);
    assert_eq!(disk.files[0].length.view(), 1);
    disk.submit(0, Action::Flush);
    end(&mut disk, 0);
    assert_eq!(disk.files[0].length, Cached::new(1));
}

#[test]
fn a_torn_write_leaves_the_first_change_of_metadata_and_any_of_data() {
    let mut disk = disk();
    let contents = [1, 2].map(|write| Content::pattern(write, 0)).to_vec();
    disk.submit(
        0,
        Action::Write {
            first: 0,
            contents: contents.clone(),
        },
    );
    disk.complete(0, Ending::Torn);
    assert_eq!(survivors(&disk, 0), ["zeros", "w1:0"]);
    assert_eq!(survivors(&disk, 1), ["zeros"]);
    Rc::make_mut(&mut disk.files[0]).metadata = 2;
    disk.submit(0, Action::Write { first: 2, contents });
    disk.complete(0, Ending::Torn);
    assert_eq!(
        disk.files[0].sectors[3].view().to_string(),
        "{zeros | w2:0}"
    );
}

#[test]
fn a_read_ends_where_the_file_does() {
    let mut disk = disk();
    write(&mut disk, 1, 1);
    end(&mut disk, 0);
    let mut bytes = [0xEE; 2 * SECTOR];
    assert_eq!(disk.read(0, SECTOR as u64, &mut bytes), SECTOR);
    assert_eq!(bytes[..SECTOR], Content::pattern(1, 0).bytes());
    assert_eq!(disk.read(0, 5000, &mut bytes), 0);
}

#[test]
fn the_fingerprint_sees_which_flush_covers_what() {
    let (mut early, mut late) = (disk(), disk());
    early.submit(0, Action::Flush);
    for disk in [&mut early, &mut late] {
        write(disk, 0, 1);
        let at = disk.pending.len() - 1;
        end(disk, at);
    }
    late.submit(0, Action::Flush);
    assert_ne!(early.fingerprint(), late.fingerprint());
}
