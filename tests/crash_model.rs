//! The exhaustive search: every interleaving, every crash, every subset of lost sectors, on tiny
//! disks.
//!
//! DESIGN.md, "What survives a crash", was found by searching a small model. This search plays the
//! library itself, on images of a few blocks, two or three chunks and a journal of two sectors. A
//! guest runs a program of up to three requests and closes; whenever something is under way or left
//! to submit, every way to go on is taken: any operation may be the next to end, well or (one in a
//! run) not, and the guest may submit its next request at any moment. Before each such step the
//! power is cut and the process killed: every combination of versions that metadata sectors and
//! file lengths may come to have is opened, its guest-visible content is compared with what was
//! promised, sector by sector, and the recovery is crashed in the same way again, until no new disk
//! comes up.
//!
//! How it stays small enough is told where it happens: `crash` (data sectors are unknowns),
//! `explore` (a state is looked at once), `search` (a disk is recovered once). Nothing is random: a
//! failure prints the program and every step, and comes again with the next run.
//!
//! `FVD_MODEL_DEPTH` is the number of requests of the longest programs besides the close; 3 where
//! it is not set, which takes about a minute. 4 takes about an hour. Programs with faults are one
//! request shorter.

mod crash_model {
    pub(crate) mod choice;
    pub(crate) mod content;
    pub(crate) mod crash;
    pub(crate) mod disk;
    pub(crate) mod explore;
    pub(crate) mod guest;
    pub(crate) mod host;
    pub(crate) mod intern;
    pub(crate) mod mix;
    pub(crate) mod oracle;
    pub(crate) mod run;
    pub(crate) mod search;
    pub(crate) mod story;
}

use std::io::Write as _;

use fvd::canary::{Canary, plant};

use crash_model::explore::Cuts;
use crash_model::guest::Request::{self, Cancel, Close, Durable, Fetch, Flush, Read, Write};
use crash_model::host::Faults;
use crash_model::search::Search;
use crash_model::story::Story;

/// Requests of the longest programs, besides the close.
fn depth() -> usize {
    let given = std::env::var("FVD_MODEL_DEPTH").ok();
    given.map_or(3, |text| text.parse().expect("FVD_MODEL_DEPTH is a number"))
}

/// All programs of up to `depth` requests and a close. None begins with a flush or a cancel, which
/// would do nothing.
fn programs(alphabet: &[Request], depth: usize) -> Vec<Vec<Request>> {
    let mut all = vec![Vec::new()];
    let mut shorter = 0..1;
    for _ in 0..depth {
        for number in shorter.clone() {
            for request in alphabet {
                let program: &Vec<_> = &all[number];
                if !program.is_empty() || !matches!(request, Flush | Cancel) {
                    let longer = program.iter().chain([request]).cloned().collect();
                    all.push(longer);
                }
            }
        }
        shorter = shorter.end..all.len();
    }
    all.into_iter()
        .map(|program| [program, vec![Close]].concat())
        .collect()
}

/// Searches all programs of a story.
fn search(name: &str, story: Story, depth: usize, faults: Faults) {
    let programs = programs(&story.alphabet, depth);
    let mut search = Search::new(story);
    for program in programs {
        if let Err(tale) = search.check(&program, faults, Cuts::Seen) {
            panic!("{tale}");
        }
    }
    // Straight to the stream, for the test harness would swallow it.
    let _ = writeln!(
        std::io::stderr(),
        "{name}, faults {faults:?}: {}",
        search.figures()
    );
}

/// Searches a story without faults, with a failing operation, and with a failing flush.
fn search_all(name: &str, story: &Story) {
    search(name, story.clone(), depth(), Faults::None);
    search(name, story.clone(), depth().saturating_sub(1), Faults::Io);
    search(
        name,
        story.clone(),
        depth().saturating_sub(1),
        Faults::Flush,
    );
}

#[test]
fn compact_over_a_base() {
    search_all("compact over a base", &Story::compact_over_base());
}

#[test]
fn large_chunks_over_a_base() {
    search_all("large chunks over a base", &Story::large_chunks());
}

#[test]
fn partly_present_already() {
    search_all("partly present already", &Story::partly_present());
}

#[test]
fn flat_over_a_base() {
    search_all("flat over a base", &Story::flat_over_base());
}

#[test]
fn compact_alone() {
    search_all("compact alone", &Story::compact_alone());
}

#[test]
fn without_a_journal() {
    search_all("without a journal", &Story::without_journal());
}

#[test]
fn with_a_data_file() {
    search_all("with a data file", &Story::with_data_file());
}

#[test]
fn without_the_fast_path() {
    let story = Story::compact_over_base().on_the_slow_path();
    search(
        "without the fast path",
        story,
        depth().saturating_sub(1),
        Faults::None,
    );
}

#[test]
fn reads_at_any_moment() {
    let story = Story::compact_over_base().read_too();
    search("with reads", story, depth().saturating_sub(1), Faults::None);
}

#[test]
fn written_through() {
    let story = Story::compact_over_base().written_through();
    search(
        "written through",
        story,
        depth().saturating_sub(1),
        Faults::None,
    );
}

#[test]
fn a_recovery_can_fail_too() {
    for story in [
        Story::compact_over_base(),
        Story::flat_over_base(),
        Story::without_journal(),
    ] {
        let story = story.badly_recovered();
        search(
            "badly recovered",
            story.clone(),
            depth().saturating_sub(1),
            Faults::None,
        );
        search(
            "badly recovered",
            story,
            depth().saturating_sub(2),
            Faults::Flush,
        );
    }
}

#[test]
fn an_update_can_be_cut_too() {
    let long_name = format!("base_img={}base", "./".repeat(300));
    let attributes = ["size=16384", "copy_on_read=on", &long_name];
    for story in [
        Story::compact_over_base(),
        Story::flat_over_base(),
        Story::without_journal(),
    ] {
        search(
            "updated",
            story.updated(&attributes),
            depth().saturating_sub(2),
            Faults::None,
        );
    }
}

/// Runs are cut where another run has been in the same state, as far as it can be seen from
/// outside. If the library's memory made a difference, going on would lead to other disks.
#[test]
fn cutting_runs_short_loses_nothing() {
    let programs: [&[Request]; 4] = [
        &[Write(1..2), Write(7..9), Flush],
        &[Write(1..2), Write(2..3), Flush, Close],
        &[Fetch(0..8), Write(3..4), Flush],
        &[Write(9..10), Read(8..16), Durable(12..18)],
    ];
    for program in programs {
        let [cut, whole] = [Cuts::Seen, Cuts::Never].map(|cuts| {
            let mut search = Search::new(Story::compact_over_base());
            search
                .check(program, Faults::None, cuts)
                .expect("the library is right");
            search.disks()
        });
        assert_eq!(cut, whole, "of {program:?}");
    }
}

/// A story, a program and faults that show a planted mistake; the last ones show most of them.
fn shown_by(canary: Canary) -> (Story, Vec<Request>, Faults) {
    let compact = Story::compact_over_base();
    match canary {
        Canary::CopiedBlockNotGuestDirty => {
            (compact, vec![Fetch(1..2), Write(3..4), Flush], Faults::None)
        }
        Canary::EntryInFirstSectorOnly => {
            let program = vec![Write(0..1), Write(5..6), Flush];
            (Story::large_chunks(), program, Faults::None)
        }
        Canary::OldChunkNotZeroed => {
            let program = vec![Write(1..2), Write(9..10), Flush];
            (Story::compact_alone(), program, Faults::None)
        }
        Canary::SharedChunkFreedByOne => {
            let program = vec![Write(9..10), Write(6..10), Flush];
            (Story::compact_alone(), program, Faults::Io)
        }
        Canary::NoLock => (
            compact,
            vec![Write(1..2), Write(3..4), Write(1..2)],
            Faults::None,
        ),
        Canary::FailedFlushForgotten => (compact, vec![Write(1..2), Flush, Close], Faults::Flush),
        _ => (compact, vec![Write(1..2), Flush, Close], Faults::None),
    }
}

#[test]
fn every_planted_mistake_is_found() {
    for canary in Canary::ALL {
        let (story, program, faults) = shown_by(*canary);
        let mut search = Search::new(story.clone());
        let right = search.check(&program, faults, Cuts::Seen);
        right.expect("without the mistake all is well");
        let mut search = Search::new(story);
        plant(Some(*canary));
        let found = search.check(&program, faults, Cuts::Seen);
        plant(None);
        let tale = found.expect_err("the mistake is found");
        let last = tale.lines().next_back().unwrap_or_default();
        let _ = writeln!(std::io::stderr(), "{canary:?}: {last}");
    }
}
