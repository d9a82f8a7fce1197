//! Planted mistakes: a simulation that finds none of them proves nothing by finding nothing.

use std::time::{Duration, Instant};

use fvd::canary::{Canary, plant};

use super::campaign::run_seed;
use super::life::Options;

/// How a planted mistake was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) seed: u64,
    pub(crate) seeds: u64,
    pub(crate) time: Duration,
    pub(crate) what: String,
}

/// Runs seeds from `first` on with a planted mistake, until one fails or `limit` is over (`None`).
/// The seed that fails must pass without the mistake.
///
/// # Errors
/// The seed fails without the mistake as well.
pub(crate) fn hunt(canary: Canary, first: u64, limit: Duration) -> Result<Option<Found>, String> {
    let begin = Instant::now();
    for seed in first.. {
        if begin.elapsed() > limit {
            break;
        }
        for no_fast_path in [false, true] {
            let options = Options {
                no_fast_path,
                ..Options::default()
            };
            plant(Some(canary));
            let result = run_seed(seed, &options);
            plant(None);
            let Err(what) = result else { continue };
            let (time, seeds) = (begin.elapsed(), seed - first + 1);
            run_seed(seed, &options)
                .map_err(|error| format!("seed {seed} fails without the mistake: {error}"))?;
            return Ok(Some(Found {
                seed,
                seeds,
                time,
                what,
            }));
        }
    }
    Ok(None)
}
