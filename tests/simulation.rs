//! The crash contract under simulation: seeds that once found something, fresh ones, and the proof
//! that the simulation is repeatable and finds planted mistakes.
//!
//! `fvd-sim` runs the same seeds from the shell, for as long as you like. `FVD_SIM_SECONDS` says
//! how long the fresh seeds run here (20). A failure names its seed and the command that repeats
//! it.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use fvd::canary::Canary;

#[path = "../src/bin/fvd-sim/harness/mod.rs"]
#[allow(dead_code, reason = "the program fvd-sim uses what these tests do not")]
mod harness;

use harness::campaign::{keep_panics_quiet, run, run_seed};
use harness::canaries::hunt;
use harness::life::Options;

/// Seeds that found a mistake in the engine, or in the simulation, while they were written.
const REGRESSIONS: &[u64] = &[
    10,
    13,
    42,
    79,
    228,
    983,
    1073,
    1489,
    1701,
    7653,
    8787,
    15_704,
    18_925,
    102_360,
    300_460,
    302_279,
    1_795_361_434_467,
    1_795_362_207_886,
    1_795_365_057_603,
    1_795_367_787_387,
];

fn both_paths() -> [Options; 2] {
    [false, true].map(|no_fast_path| Options {
        no_fast_path,
        ..Options::default()
    })
}

#[test]
fn seeds_that_found_something_find_nothing_any_more() {
    keep_panics_quiet();
    for seed in REGRESSIONS {
        for options in both_paths() {
            let result = run_seed(*seed, &options);
            assert!(
                result.is_ok(),
                "fvd-sim --seed {seed}: {}",
                result.unwrap_err()
            );
        }
    }
}

#[test]
fn fresh_seeds_find_nothing() {
    keep_panics_quiet();
    let seconds = std::env::var("FVD_SIM_SECONDS").map_or(20, |text| text.parse().unwrap());
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let first = clock.unwrap().as_secs() * 1000;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let (totals, failure) = run(first, jobs, Duration::from_secs(seconds), |_| ());
    println!("seeds from {first} on: {totals}");
    if let Some(failure) = failure {
        panic!("fvd-sim {}: {}", failure.arguments(), failure.what);
    }
    assert!(totals.power_cuts > 0 && totals.kills > 0 && totals.operations > 0);
}

#[test]
fn a_seed_repeats_bit_for_bit() {
    keep_panics_quiet();
    for seed in 1..40 {
        for options in both_paths() {
            let reports = [(); 2].map(|()| run_seed(seed, &options));
            assert_eq!(reports[0], reports[1], "seed {seed}");
        }
    }
}

#[test]
fn every_planted_mistake_is_found() {
    keep_panics_quiet();
    let left = Mutex::new(Canary::ALL.iter());
    let search = || {
        loop {
            let Some(canary) = left.lock().unwrap().next() else {
                return;
            };
            let found = hunt(*canary, 1, Duration::from_secs(60)).unwrap();
            let found = found.unwrap_or_else(|| panic!("{canary:?} was not found"));
            println!("{canary:?}: seed {}, {:?}", found.seed, found.time);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(search)).collect();
        for thread in threads {
            thread.join().expect("every mistake is found");
        }
    });
}
