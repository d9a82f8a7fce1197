//! Choices, and all of them: the heart of the search.
//!
//! A run asks [`Choices::choose`] wherever the world could go on in more than one way, and depends
//! on nothing else. So the list of answers *is* the run. The search plays a run to its end, always
//! taking the first way where it has no instruction, then takes the last choice that has another
//! way, and plays again from the start: depth first, without a copy of anything, until no choice
//! has another way.

/// The answers of one run, and where the next run will differ.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choices {
    /// Taken way and number of ways, for each choice so far.
    taken: Vec<(usize, usize)>,
    /// How many of them this run has met.
    met: usize,
}

impl Choices {
    /// Which of `ways` ways to go now. Where there is only one, nothing is recorded.
    pub(crate) fn choose(&mut self, ways: usize) -> usize {
        assert!(ways > 0, "there is no way to go on");
        if ways == 1 {
            return 0;
        }
        if self.is_fresh() {
            self.taken.push((0, ways));
        }
        let (way, recorded) = self.taken[self.met];
        assert_eq!(
            recorded, ways,
            "the run did not repeat: choice {}",
            self.met
        );
        self.met += 1;
        way
    }

    /// True once the run has left the part that earlier runs went through.
    pub(crate) fn is_fresh(&self) -> bool {
        self.met == self.taken.len()
    }

    /// Prepares the next run. False: there is none.
    pub(crate) fn next_run(&mut self) -> bool {
        self.taken.truncate(self.met);
        self.met = 0;
        while let Some((way, ways)) = self.taken.pop() {
            if way + 1 < ways {
                self.taken.push((way + 1, ways));
                return true;
            }
        }
        false
    }
}

#[test]
fn every_sequence_comes_exactly_once() {
    let mut choices = Choices::default();
    let mut runs = Vec::new();
    loop {
        let first = choices.choose(3);
        let second = if first == 1 {
            choices.choose(2)
        } else {
            choices.choose(1)
        };
        runs.push((first, second));
        if !choices.next_run() {
            break;
        }
    }
    assert_eq!(runs, [(0, 0), (1, 0), (1, 1), (2, 0)]);
}

#[test]
fn a_run_that_is_cut_short_has_no_later_choices() {
    let mut choices = Choices::default();
    choices.choose(2);
    choices.choose(2);
    assert!(choices.next_run());
    assert_eq!(choices.choose(2), 0);
    assert!(!choices.is_fresh());
    assert!(
        choices.next_run(),
        "the run ended before its second choice: only the first is left"
    );
    assert_eq!(choices.choose(2), 1);
    assert!(choices.is_fresh());
    assert!(!choices.next_run());
}
