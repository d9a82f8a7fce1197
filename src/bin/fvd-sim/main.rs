//! `fvd-sim`: the simulation from the shell.
//!
//! ```text
//!   fvd-sim --seed N [--steps M] [--no-fast-path] [--trace]   one seed
//!   fvd-sim --time S [--jobs N] [--start-seed N]              seeds for S seconds, on all cores
//!   fvd-sim canary [--time S] [--start-seed N] [NAME…]        planted mistakes, S seconds each
//! ```
//!
//! Exit code 0: no failure, and every canary was found; 1: otherwise; 2: wrong arguments.

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use fvd::canary::Canary;

mod harness;

use harness::campaign::{Failure, Totals, keep_panics_quiet, run, run_seed};
use harness::canaries::hunt;
use harness::life::Options;

const USAGE: &str = "usage: fvd-sim --seed N [--steps M] [--no-fast-path] [--trace]
       fvd-sim --time SECONDS [--jobs N] [--start-seed N]
       fvd-sim canary [--time SECONDS] [--start-seed N] [NAME...]";

/// The command line, taken apart.
#[derive(Debug, Default)]
struct Arguments {
    seed: Option<u64>,
    steps: Option<u64>,
    time: Option<u64>,
    jobs: Option<u64>,
    start_seed: Option<u64>,
    no_fast_path: bool,
    trace: bool,
    words: Vec<String>,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self::default();
        while let Some(argument) = arguments.next() {
            let number = match argument.as_str() {
                "--seed" => &mut parsed.seed,
                "--steps" => &mut parsed.steps,
                "--time" => &mut parsed.time,
                "--jobs" => &mut parsed.jobs,
                "--start-seed" => &mut parsed.start_seed,
                "--no-fast-path" => {
                    parsed.no_fast_path = true;
                    continue;
                }
                "--trace" => {
                    parsed.trace = true;
                    continue;
                }
                unknown if unknown.starts_with('-') => return Err(format!("what is {unknown}?")),
                _ => {
                    parsed.words.push(argument);
                    continue;
                }
            };
            let value = arguments
                .next()
                .ok_or(format!("{argument} wants a number"))?;
            let parse = value
                .parse()
                .map_err(|_| format!("{argument}: {value} is no number"));
            *number = Some(parse?);
        }
        Ok(parsed)
    }

    fn start_seed(&self) -> u64 {
        let clock = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.start_seed
            .unwrap_or_else(|| clock().map_or(1, |time| time.as_secs() * 1000))
    }

    fn jobs(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs
            .map_or_else(cores, |jobs| usize::try_from(jobs.max(1)).unwrap_or(1))
    }
}

fn main() -> ExitCode {
    keep_memory();
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    match (
        arguments.words.first().map(String::as_str),
        arguments.seed,
        arguments.time,
    ) {
        (Some("canary"), None, _) => canaries(&arguments),
        (Some(word), ..) => usage(&format!("what is '{word}'?")),
        (None, Some(seed), None) => one_seed(seed, &arguments),
        (None, None, Some(time)) => campaign(&arguments, Duration::from_secs(time)),
        (None, ..) => usage("either --seed or --time, or canary"),
    }
}

/// Keeps freed memory instead of giving it back to the system, page by page, a thousand times a
/// second.
fn keep_memory() {
    /// The most that the allocator takes for the first of these.
    const PLENTY: std::ffi::c_int = 32 << 20;
    #[cfg(target_env = "gnu")]
    for option in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
        // SAFETY: it changes how the allocator works, not what it promises.
        unsafe { libc::mallopt(option, PLENTY) };
    }
}

fn usage(error: &str) -> ExitCode {
    eprintln!("fvd-sim: {error}\n{USAGE}");
    ExitCode::from(2)
}

fn one_seed(seed: u64, arguments: &Arguments) -> ExitCode {
    let Arguments {
        steps,
        no_fast_path,
        trace,
        ..
    } = *arguments;
    let options = Options {
        steps,
        no_fast_path,
        trace,
    };
    if !trace {
        keep_panics_quiet();
    }
    match run_seed(seed, &options) {
        Ok(report) => {
            println!("seed {seed}: {report:?}");
            ExitCode::SUCCESS
        }
        Err(what) => failed(&Failure {
            seed,
            options,
            what,
        }),
    }
}

fn failed(failure: &Failure) -> ExitCode {
    println!("FAILED: seed {}: {}", failure.seed, failure.what);
    println!("repeat it with: fvd-sim {} --trace", failure.arguments());
    ExitCode::FAILURE
}

fn campaign(arguments: &Arguments, time: Duration) -> ExitCode {
    keep_panics_quiet();
    let (first, jobs) = (arguments.start_seed(), arguments.jobs());
    println!(
        "seeds from {first} on, {jobs} at a time, for {} s",
        time.as_secs()
    );
    let begin = Instant::now();
    let tell = |totals: &Totals| print_totals(totals, begin.elapsed());
    let (totals, failure) = run(first, jobs, time, tell);
    print_totals(&totals, begin.elapsed());
    failure.map_or(ExitCode::SUCCESS, |failure| failed(&failure))
}

fn print_totals(totals: &Totals, time: Duration) {
    let a_second = u128::from(totals.operations) * 1000 / time.as_millis().max(1);
    println!("{} s: {totals} ({a_second} operations/s)", time.as_secs());
}

fn canaries(arguments: &Arguments) -> ExitCode {
    keep_panics_quiet();
    let limit = Duration::from_secs(arguments.time.unwrap_or(60));
    let names = &arguments.words[1..];
    let mut all_found = true;
    for canary in Canary::ALL {
        let name = format!("{canary:?}");
        if !names.is_empty() && !names.contains(&name) {
            continue;
        }
        match hunt(*canary, arguments.start_seed.unwrap_or(1), limit) {
            Ok(Some(found)) => {
                let what = found.what.lines().next().unwrap_or_default();
                let (seconds, seeds) = (found.time.as_secs_f64(), found.seeds);
                println!(
                    "{name}: seed {}, {seeds} seeds, {seconds:.2} s: {what}",
                    found.seed
                );
            }
            Ok(None) => {
                println!("{name}: NOT FOUND in {} s", limit.as_secs());
                all_found = false;
            }
            Err(error) => {
                println!("{name}: {error}");
                all_found = false;
            }
        }
    }
    if all_found {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
