//! Hand-written stories: what the oracle must allow, and what it must reject.

use super::*;

/// A disk of four sectors, the first two over a base.
struct Story(Oracle);

const BASE: Content = Content::Pattern(0);

impl Story {
    fn new() -> Self {
        Self(Oracle::new(&[BASE, BASE, Content::Zero, Content::Zero], 1))
    }

    fn write(&mut self, sector: u64, ending: Ending) -> Content {
        let id = self.0.begin_write(sector, 1, false);
        self.0.end_write(id, ending);
        Content::Pattern(id.0)
    }

    fn flush(&mut self) {
        let flush = self.0.begin_flush();
        self.0.end_flush(flush);
    }

    /// Is a read that was submitted at `read` allowed to give this?
    fn may_give(&mut self, read: u64, sector: u64, content: Content) -> bool {
        self.0
            .check_read(read, sector, &bytes(sector, content))
            .is_ok()
    }

    /// Is a read that begins and ends now allowed to give this?
    fn may_read(&mut self, sector: u64, content: Content) -> bool {
        let read = self.0.begin_read();
        let allowed = self.may_give(read, sector, content);
        self.0.end_read(read);
        allowed
    }

    fn crash_to(&mut self, crash: Crash, sector: u64, content: Content) -> bool {
        self.0.crashed();
        self.0
            .observe(crash, sector, &bytes(sector, content))
            .is_ok()
    }
}

fn bytes(sector: u64, content: Content) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    content.fill(sector, &mut bytes);
    bytes
}

#[test]
fn what_was_never_written_reads_as_the_base_or_zeros() {
    let mut story = Story::new();
    assert!(story.may_read(0, BASE) && story.may_read(2, Content::Zero));
    assert!(!story.may_read(0, Content::Zero));
    assert!(!story.may_read(2, BASE));
}

#[test]
fn a_done_write_is_all_that_a_later_read_may_give() {
    let mut story = Story::new();
    let one = story.write(0, Ending::Done);
    assert!(story.may_read(0, one));
    assert!(!story.may_read(0, BASE));
    let two = story.write(0, Ending::Done);
    assert!(story.may_read(0, two));
    assert!(!story.may_read(0, one));
}

#[test]
fn a_read_under_way_with_a_write_may_give_old_or_new() {
    let mut story = Story::new();
    let read = story.0.begin_read();
    let one = story.write(0, Ending::Done);
    assert!(story.may_give(read, 0, BASE) && story.may_give(read, 0, one));
    assert!(!story.may_read(0, BASE), "a read that begins later may not");
    let two = story.write(0, Ending::Done);
    assert!(story.may_give(read, 0, BASE) && story.may_give(read, 0, two));
    story.0.end_read(read);
}

#[test]
fn writes_under_way_at_once_end_in_either_order() {
    let mut story = Story::new();
    let one = story.0.begin_write(0, 1, false);
    let two = story.0.begin_write(0, 1, false);
    story.0.end_write(two, Ending::Done);
    story.0.end_write(one, Ending::Done);
    assert!(
        story.may_read(0, Content::Pattern(one.0)) && story.may_read(0, Content::Pattern(two.0))
    );
    assert!(!story.may_read(0, BASE));
}

#[test]
fn a_failed_write_happened_or_not_and_supersedes_nothing() {
    let mut story = Story::new();
    let failed = story.write(0, Ending::Unsure);
    assert!(story.may_read(0, failed) && story.may_read(0, BASE));
    let next = story.write(0, Ending::Done);
    assert!(story.may_read(0, next));
    assert!(
        !story.may_read(0, failed),
        "its I/O was over before the next write began"
    );
}

#[test]
fn without_a_flush_a_power_cut_may_take_back_anything() {
    for content in [BASE, Content::Pattern(1), Content::Pattern(2)] {
        let mut story = Story::new();
        story.write(0, Ending::Done);
        story.write(0, Ending::Done);
        assert!(story.crash_to(Crash::PowerCut, 0, content));
        assert!(story.may_read(0, content), "what was seen stays");
        assert!(story.crash_to(Crash::PowerCut, 0, content));
        let other = if content == BASE {
            Content::Pattern(1)
        } else {
            BASE
        };
        assert!(!story.crash_to(Crash::PowerCut, 0, other));
    }
}

#[test]
fn a_flush_keeps_what_was_done_before_it_was_submitted() {
    let mut story = Story::new();
    let one = story.write(0, Ending::Done);
    let late = story.0.begin_write(1, 1, false);
    let flush = story.0.begin_flush();
    story.0.end_write(late, Ending::Done);
    story.0.end_flush(flush);
    assert!(!story.crash_to(Crash::PowerCut, 0, BASE));
    assert!(story.0.observe(Crash::PowerCut, 0, &bytes(0, one)).is_ok());
    assert!(
        story.0.observe(Crash::PowerCut, 1, &bytes(1, BASE)).is_ok(),
        "the late write was not covered"
    );
}

#[test]
fn a_flush_does_not_choose_between_writes_that_were_under_way_at_once() {
    for choice in 0..2 {
        let mut story = Story::new();
        let ids = [
            story.0.begin_write(0, 1, false),
            story.0.begin_write(0, 1, false),
        ];
        ids.iter()
            .for_each(|id| story.0.end_write(*id, Ending::Done));
        story.flush();
        assert!(!story.crash_to(Crash::PowerCut, 0, BASE));
        assert!(story.crash_to(Crash::PowerCut, 0, Content::Pattern(ids[choice].0)));
    }
}

#[test]
fn a_write_under_way_at_a_power_cut_may_survive_a_flushed_one() {
    for survivor in [1, 2] {
        let mut story = Story::new();
        story.write(0, Ending::Done);
        story.0.begin_write(0, 1, false);
        story.flush();
        assert!(story.crash_to(Crash::PowerCut, 0, Content::Pattern(survivor)));
    }
}

#[test]
fn a_durable_write_covers_itself_alone() {
    let mut story = Story::new();
    let other = story.write(1, Ending::Done);
    let fua = story.write(0, Ending::Durable);
    assert!(!story.crash_to(Crash::PowerCut, 0, BASE));
    assert!(story.0.observe(Crash::PowerCut, 0, &bytes(0, fua)).is_ok());
    assert_ne!(other, BASE);
    assert!(story.0.observe(Crash::PowerCut, 1, &bytes(1, BASE)).is_ok());
}

#[test]
fn a_clean_close_covers_everything() {
    let mut story = Story::new();
    let one = story.write(0, Ending::Done);
    story.0.closed();
    assert!(!story.crash_to(Crash::PowerCut, 0, BASE));
    assert!(story.crash_to(Crash::PowerCut, 0, one));
}

#[test]
fn after_a_kill_reads_agree_with_what_was_seen_and_a_power_cut_may_differ() {
    for later in [BASE, Content::Pattern(1)] {
        let mut story = Story::new();
        let one = story.write(0, Ending::Done);
        assert!(story.crash_to(Crash::Kill, 0, one));
        assert!(story.may_read(0, one) && !story.may_read(0, BASE));
        assert_eq!(story.0.undecided(), 1);
        assert!(story.crash_to(Crash::PowerCut, 0, later));
        assert_eq!(story.0.undecided(), 0);
    }
}

#[test]
fn a_flush_after_a_kill_covers_what_was_seen() {
    let mut story = Story::new();
    let one = story.write(0, Ending::Done);
    assert!(story.crash_to(Crash::Kill, 0, one));
    story.flush();
    assert!(!story.crash_to(Crash::PowerCut, 0, BASE));
}

#[test]
fn no_flush_saves_what_a_failed_one_tainted_but_a_new_write_does() {
    let tainted = || {
        let mut story = Story::new();
        let one = story.write(0, Ending::Done);
        story.0.host_flush_failed();
        assert!(
            story.may_read(0, Content::Zero),
            "a lost session is not judged"
        );
        assert!(story.crash_to(Crash::Kill, 0, one));
        story.flush();
        story
    };
    assert!(tainted().crash_to(Crash::PowerCut, 0, BASE));
    assert!(tainted().crash_to(Crash::PowerCut, 0, Content::Pattern(1)));
    let mut story = tainted();
    let two = story.write(0, Ending::Done);
    story.flush();
    assert!(!story.crash_to(Crash::PowerCut, 0, Content::Pattern(1)));
    assert!(story.crash_to(Crash::PowerCut, 0, two));
}

#[test]
fn what_was_flushed_before_a_flush_failed_is_safe() {
    let mut story = Story::new();
    let one = story.write(0, Ending::Done);
    story.flush();
    story.write(1, Ending::Done);
    story.0.host_flush_failed();
    assert!(!story.crash_to(Crash::PowerCut, 0, BASE));
    assert!(story.crash_to(Crash::PowerCut, 0, one));
    assert!(story.crash_to(Crash::PowerCut, 1, BASE));
}

#[test]
fn a_flush_does_not_save_a_cancelled_write_from_a_later_failure() {
    for survivor in [BASE, Content::Pattern(1)] {
        let mut story = Story::new();
        let cancelled = story.write(0, Ending::Unsure);
        story.flush();
        story.0.host_flush_failed();
        assert!(story.crash_to(Crash::Kill, 0, cancelled));
        story.flush();
        assert!(story.crash_to(Crash::PowerCut, 0, survivor));
    }
}

#[test]
fn zeros_of_a_write_and_zeros_of_nobody_are_one_content() {
    let mut story = Story::new();
    let id = story.0.begin_write(0, 4, true);
    story.0.end_write(id, Ending::Done);
    assert!(story.may_read(0, Content::Zero) && story.may_read(3, Content::Zero));
    assert!(!story.may_read(0, BASE));
    assert!(story.crash_to(Crash::PowerCut, 0, BASE));
}

#[test]
fn what_a_disk_gains_is_zero() {
    let mut story = Story::new();
    story.0.grow(6);
    assert_eq!(story.0.sectors(), 6);
    assert!(story.may_read(5, Content::Zero));
    assert!(!story.may_read(5, BASE));
    let one = story.write(5, Ending::Done);
    assert!(story.may_read(5, one));
}

#[test]
fn a_violation_names_the_sector_and_tells_its_story() {
    let mut story = Story::new();
    story.write(1, Ending::Done);
    let read = story.0.begin_read();
    let said = story
        .0
        .check_read(read, 1, &bytes(1, BASE))
        .unwrap_err()
        .to_string();
    for word in [
        "write 0 in sector 1",
        "byte 0x200",
        "allowed: write 1",
        "write 1 ended: Done",
    ] {
        assert!(said.contains(word), "{word:?} is missing in {said:?}");
    }
}
