//! Stories about one file, each with the contents that every power cut of many may leave.

use std::collections::BTreeSet;

use super::*;

const LEN: u64 = SECTOR as u64;

/// A story is told anew for each power cut.
fn after_power_cuts<T: Ord>(story: impl Fn() -> SimFile, look: impl Fn(&SimFile) -> T) -> Vec<T> {
    let mut seen = BTreeSet::new();
    for seed in 0..300 {
        let mut file = story();
        let mut rng = Prng::new(seed);
        let survival = Survival::draw(&mut rng, 8);
        file.power_cut(&mut rng, survival);
        assert_eq!((&file.view, file.len), (&file.durable, file.durable_len));
        assert_eq!(file.dirty_sectors(), 0);
        seen.insert(look(&file));
    }
    seen.into_iter().collect()
}

fn first_bytes(file: &SimFile) -> Vec<u8> {
    file.bytes()
        .chunks(SECTOR)
        .map(|sector| sector[0])
        .collect()
}

fn zeros(sectors: usize) -> SimFile {
    SimFile::new(vec![0; sectors * SECTOR], false)
}

fn put(file: &mut SimFile, sector: u64, content: &[u8]) -> WriteNo {
    let bytes: Vec<u8> = content.iter().flat_map(|byte| [*byte; SECTOR]).collect();
    let write = file.begin();
    file.write(write, sector * LEN, &bytes, None);
    write
}

fn put_done(file: &mut SimFile, sector: u64, content: &[u8]) {
    let write = put(file, sector, content);
    file.complete(write);
}

fn flush(file: &mut SimFile) {
    let stamp = file.flush_begin();
    file.flush_end(stamp);
}

#[test]
fn without_a_flush_any_version_of_any_sector_survives() {
    let story = || {
        let mut file = zeros(2);
        put_done(&mut file, 0, &[1, 1]);
        put(&mut file, 0, &[2]);
        assert_eq!(first_bytes(&file), [2, 1], "reads see the newest");
        file
    };
    let all = [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]];
    assert_eq!(after_power_cuts(story, first_bytes), all);
}

#[test]
fn a_flush_is_a_floor_for_what_completed_before_it_was_submitted() {
    let story = || {
        let mut file = zeros(2);
        put_done(&mut file, 0, &[1]);
        let late = put(&mut file, 1, &[5]);
        let stamp = file.flush_begin();
        file.complete(late);
        put_done(&mut file, 0, &[2]);
        file.flush_end(stamp);
        file
    };
    assert_eq!(
        after_power_cuts(story, first_bytes),
        [[1, 0], [1, 5], [2, 0], [2, 5]]
    );
}

#[test]
fn a_write_that_completed_late_is_not_a_floor_though_a_later_one_is() {
    let story = || {
        let mut file = zeros(1);
        put(&mut file, 0, &[1]);
        put_done(&mut file, 0, &[2]);
        put(&mut file, 0, &[3]);
        flush(&mut file);
        file
    };
    assert_eq!(after_power_cuts(story, first_bytes), [[2], [3]]);
}

#[test]
fn a_kill_keeps_the_view_and_makes_nothing_durable() {
    let story = || {
        let mut file = zeros(1);
        put(&mut file, 0, &[1]);
        file.kill();
        assert_eq!(first_bytes(&file), [1]);
        file
    };
    assert_eq!(after_power_cuts(story, first_bytes), [[0], [1]]);
    let flushed = || {
        let mut file = story();
        flush(&mut file);
        file
    };
    assert_eq!(after_power_cuts(flushed, first_bytes), [[1]]);
}

#[test]
fn what_a_failed_flush_lost_is_saved_by_a_new_write_alone() {
    let failed = || {
        let mut file = zeros(1);
        put_done(&mut file, 0, &[1]);
        let stamp = file.flush_begin();
        file.flush_failed(stamp, &mut Prng::new(1), 1000, 0);
        assert_eq!(first_bytes(&file), [1], "the cache still shows it");
        flush(&mut file);
        file
    };
    assert_eq!(after_power_cuts(failed, first_bytes), [[0], [1]]);
    let again = || {
        let mut file = failed();
        put_done(&mut file, 0, &[2]);
        flush(&mut file);
        file
    };
    assert_eq!(after_power_cuts(again, first_bytes), [[2]]);
}

#[test]
fn a_reverted_sector_shows_what_is_on_the_disk_for_good() {
    let story = |seed| {
        let mut file = zeros(1);
        put_done(&mut file, 0, &[1]);
        let stamp = file.flush_begin();
        file.flush_failed(stamp, &mut Prng::new(seed), 1000, 1000);
        file
    };
    let seen: BTreeSet<_> = (0..50).map(|seed| first_bytes(&story(seed))).collect();
    assert_eq!(Vec::from_iter(seen), [[0], [1]]);
    for seed in 0..50 {
        let after = after_power_cuts(|| story(seed), first_bytes);
        assert_eq!(after, [first_bytes(&story(seed))]);
    }
}

#[test]
fn a_failed_flush_does_not_bring_back_what_was_cut() {
    let story = || {
        let mut file = SimFile::new(vec![9; SECTOR], false);
        let write = file.begin();
        file.truncate(write, 0);
        file.complete(write);
        let stamp = file.flush_begin();
        file.flush_failed(stamp, &mut Prng::new(1), 1000, 1000);
        let write = file.begin();
        file.truncate(write, LEN);
        file.complete(write);
        assert_eq!(first_bytes(&file), [0]);
        flush(&mut file);
        file
    };
    assert_eq!(after_power_cuts(story, first_bytes), [[0]]);
}

#[test]
fn a_failed_flush_that_drops_nothing_can_be_repeated() {
    let story = || {
        let mut file = zeros(1);
        put_done(&mut file, 0, &[1]);
        let stamp = file.flush_begin();
        file.flush_failed(stamp, &mut Prng::new(1), 0, 0);
        flush(&mut file);
        file
    };
    assert_eq!(after_power_cuts(story, first_bytes), [[1]]);
}

#[test]
fn a_length_that_was_not_flushed_can_be_lost_with_what_lies_beyond() {
    let story = || {
        let mut file = zeros(1);
        put_done(&mut file, 2, &[7]);
        assert_eq!(first_bytes(&file), [0, 0, 7], "the gap reads zeros");
        file
    };
    let all = vec![vec![0], vec![0, 0, 0], vec![0, 0, 7]];
    assert_eq!(after_power_cuts(story, first_bytes), all);
}

#[test]
fn a_flushed_write_keeps_its_length_though_the_write_that_grew_the_file_is_in_flight() {
    let story = || {
        let mut file = zeros(0);
        put(&mut file, 1, &[1]);
        put_done(&mut file, 0, &[2]);
        flush(&mut file);
        file
    };
    assert_eq!(after_power_cuts(story, first_bytes), [[2, 0], [2, 1]]);
}

#[test]
fn cutting_a_file_is_lost_sector_by_sector_until_it_is_flushed() {
    let cut = || {
        let mut file = SimFile::new(vec![9; 3 * SECTOR], false);
        let write = file.begin();
        file.truncate(write, LEN);
        file.truncate(write, 3 * LEN);
        file.complete(write);
        assert_eq!(first_bytes(&file), [9, 0, 0]);
        file
    };
    let all = [[9, 0, 0], [9, 0, 9], [9, 9, 0], [9, 9, 9]];
    assert_eq!(after_power_cuts(cut, first_bytes), all);
    let flushed = || {
        let mut file = cut();
        flush(&mut file);
        file
    };
    assert_eq!(after_power_cuts(flushed, first_bytes), [[9, 0, 0]]);
}

#[test]
fn a_shorter_length_takes_the_sectors_behind_it_along() {
    let story = || {
        let mut file = SimFile::new(vec![9; 2 * SECTOR], false);
        let write = file.begin();
        file.truncate(write, LEN);
        file
    };
    assert_eq!(
        after_power_cuts(story, first_bytes),
        [vec![9], vec![9, 0], vec![9, 9]]
    );
}

#[test]
fn a_torn_write_leaves_any_subset_of_its_sectors() {
    let mut seen = BTreeSet::new();
    for seed in 0..300 {
        let mut file = zeros(2);
        let write = file.begin();
        file.write(write, 0, &[1; 2 * SECTOR], Some(&mut Prng::new(seed)));
        seen.insert(first_bytes(&file));
    }
    assert_eq!(Vec::from_iter(seen), [[0, 0], [0, 1], [1, 0], [1, 1]]);
}

#[test]
fn zeroing_is_a_write_of_zeros() {
    let story = || {
        let mut file = SimFile::new(vec![9; 2 * SECTOR], true);
        let write = file.begin();
        file.zero(write, LEN, LEN, None);
        assert_eq!(first_bytes(&file), [9, 0]);
        file
    };
    assert_eq!(after_power_cuts(story, first_bytes), [[9, 0], [9, 9]]);
}

#[test]
fn zeroing_past_the_end_makes_the_file_longer() {
    let story = || {
        let mut file = zeros(1);
        let write = file.begin();
        file.zero(write, 0, 2 * LEN, None);
        file
    };
    assert_eq!(after_power_cuts(story, first_bytes), [vec![0], vec![0, 0]]);
}

#[test]
fn what_somebody_else_put_there_is_durable() {
    let story = || {
        let mut file = zeros(2);
        put(&mut file, 0, &[1, 1]);
        file.poke(0, &[5; SECTOR]);
        assert_eq!(first_bytes(&file), [5, 1]);
        file
    };
    assert_eq!(after_power_cuts(story, first_bytes), [[5, 0], [5, 1]]);
}

#[test]
fn what_somebody_else_cut_off_is_gone() {
    let story = || {
        let mut file = SimFile::new(vec![9; 2 * SECTOR], false);
        put(&mut file, 1, &[1]);
        file.shorten(LEN);
        file.extend(&[7; SECTOR]);
        file
    };
    assert_eq!(after_power_cuts(story, first_bytes), [[9, 7]]);
}

#[test]
fn a_device_that_grew_has_its_new_length_for_good() {
    let story = || {
        let mut file = SimFile::new(vec![9; SECTOR], true);
        file.extend(&[7; SECTOR]);
        file
    };
    assert_eq!(after_power_cuts(story, first_bytes), [[9, 7]]);
}

#[test]
fn reads_end_where_the_file_does() {
    let file = SimFile::new(vec![3; 700], false);
    let mut buffer = [0u8; 1024];
    let list = [libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    }];
    // SAFETY: the list and the buffer outlive the read.
    let iov = unsafe { IoVecs::from_raw(list.as_ptr(), 1) };
    assert_eq!(file.read(512, &iov), 188);
    assert_eq!(file.read(1024, &iov), 0);
    assert_eq!((buffer[187], buffer[188]), (3, 0));
}
