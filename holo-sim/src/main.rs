//! The `holo-sim` command: runs seeds, replays one for people, and shows that planted bugs are caught.

use std::io::{self, Write};
use std::ops::Range;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use holo_sim::{Campaign, Hunt, Plant, Summary, run};

/// Runs whole clusters in virtual time, each from one seed.
#[derive(Debug, Parser)]
#[command(name = "holo-sim", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run seeds and report violations
    Run {
        /// Seeds, as A..B
        #[arg(long, value_parser = parse_seeds)]
        seeds: Range<u64>,
        /// Threads
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// A planted bug, by name
        #[arg(long, value_parser = parse_plant, default_value = "None")]
        mutant: Plant,
        /// Go on with further seeds for so many minutes
        #[arg(long)]
        minutes: Option<u64>,
    },
    /// Run one seed and print what happened
    Replay {
        /// The seed
        #[arg(long)]
        seed: u64,
        /// A planted bug, by name
        #[arg(long, value_parser = parse_plant, default_value = "None")]
        mutant: Plant,
    },
    /// Plant every bug and print the table of who was caught
    Mutants {
        /// Seeds to try for each
        #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
        seeds: u64,
        /// Threads
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// Only this one, by name
        #[arg(long, value_parser = parse_plant)]
        mutant: Option<Plant>,
    },
}

fn main() -> ExitCode {
    // A failed assertion of the machine is reported with its seed; where it stands is known then.
    std::panic::set_hook(Box::new(|_| {}));
    let mut out = io::stdout().lock();
    let result = match Cli::parse().command {
        Command::Run { seeds, jobs, mutant, minutes } => run_seeds(
            &mut out,
            &Campaign { seeds, jobs, plant: mutant, ends_at_first: false },
            minutes,
        ),
        Command::Replay { seed, mutant } => replay(&mut out, seed, mutant),
        Command::Mutants { seeds, jobs, mutant } => mutants(&mut out, seeds, jobs, mutant),
    };
    // A reader that goes away (`| head`) is no failure of the run.
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

fn run_seeds(out: &mut impl Write, first: &Campaign, minutes: Option<u64>) -> io::Result<bool> {
    let clock = Clock::start();
    let end = minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let mut campaign = first.clone();
    let mut clean = true;
    loop {
        let began = clock.elapsed();
        let summary = campaign.run();
        report(out, &campaign, &summary, clock.elapsed().saturating_sub(began))?;
        clean &= summary.is_clean();
        if !clean || end.is_none_or(|end| clock.elapsed() >= end) {
            return Ok(clean);
        }
        let count = campaign.seeds.end - campaign.seeds.start;
        campaign.seeds = campaign.seeds.end..campaign.seeds.end + count;
    }
}

fn report(
    out: &mut impl Write,
    campaign: &Campaign,
    summary: &Summary,
    took: Duration,
) -> io::Result<()> {
    let seeds = summary.seeds.max(1);
    let rate = summary.seeds * 1_000_000 / u64::try_from(took.as_micros()).unwrap_or(1).max(1);
    writeln!(
        out,
        "seeds {}..{}: {} run ({} twice), {} violations, {} unsteady, {} lost groups, {} undecided; per seed {} events, {} answers, {} epochs, {}.{} s; {rate} seeds/s",
        campaign.seeds.start,
        campaign.seeds.end,
        summary.seeds,
        summary.twice,
        summary.broken.values().sum::<u64>(),
        summary.unsteady.len(),
        summary.lost,
        summary.undecided,
        summary.events / seeds,
        summary.answered / seeds,
        summary.epochs / seeds,
        summary.lasted / seeds / 1_000_000_000,
        summary.lasted / seeds / 100_000_000 % 10,
    )?;
    for (invariant, count) in &summary.broken {
        writeln!(out, "  {count:>6} x {invariant}")?;
    }
    for failure in &summary.failures {
        if let Some(violation) = &failure.violation {
            writeln!(out, "  seed {}: {violation}", failure.seed)?;
        }
    }
    for seed in &summary.unsteady {
        writeln!(out, "  seed {seed}: the second run was another one")?;
    }
    if let Some(failure) = summary.failures.first() {
        writeln!(out, "  {}", replay_command(failure.seed, campaign.plant))?;
    }
    Ok(())
}

/// What shows one run again, planted bug and all.
fn replay_command(seed: u64, plant: Plant) -> String {
    match plant {
        Plant::None => format!("holo-sim replay --seed {seed}"),
        plant => format!("holo-sim replay --seed {seed} --mutant {}", plant.name()),
    }
}

fn replay(out: &mut impl Write, seed: u64, plant: Plant) -> io::Result<bool> {
    let report = run(seed, plant, true);
    for line in &report.lines {
        writeln!(out, "{line}")?;
    }
    writeln!(
        out,
        "seed {seed}: {} events, {} answers, hash {:016x}",
        report.events, report.answered, report.hash
    )?;
    match &report.violation {
        Some(violation) => writeln!(out, "violation: {violation}")?,
        None => writeln!(out, "no violation")?,
    }
    Ok(report.violation.is_none())
}

fn mutants(out: &mut impl Write, seeds: u64, jobs: usize, only: Option<Plant>) -> io::Result<bool> {
    let mut all_caught = true;
    writeln!(out, "{:<28} {:<8} {:>8} {:>8}  invariant", "mutant", "caught", "seed", "tried")?;
    for plant in Plant::all().filter(|plant| only.is_none_or(|only| only == *plant)) {
        let hunt = Hunt::run(plant, 0..seeds, jobs);
        let name = plant.name();
        let caught = hunt.caught.as_ref();
        all_caught &= caught.is_some();
        match caught.and_then(|report| report.violation.as_ref().map(|it| (report.seed, it))) {
            Some((seed, violation)) => writeln!(
                out,
                "{name:<28} {:<8} {seed:>8} {:>8}  {} ({})",
                "yes",
                hunt.tried,
                violation.invariant,
                plant.title()
            )?,
            None => writeln!(
                out,
                "{name:<28} {:<8} {:>8} {:>8}  - ({})",
                "NO",
                "-",
                hunt.tried,
                plant.title()
            )?,
        }
        out.flush()?;
    }
    Ok(all_caught)
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let (low, high) = text.split_once("..").ok_or("give seeds as A..B")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    let seeds = number(low)?..number(high)?;
    if seeds.is_empty() {
        return Err(format!("{text} holds no seed: B must be above A"));
    }
    Ok(seeds)
}

fn parse_plant(text: &str) -> Result<Plant, String> {
    Plant::find(text).ok_or_else(|| {
        let names: Vec<String> = Plant::all().map(Plant::name).collect();
        format!("no planted bug {text:?}; there are None, {}", names.join(", "))
    })
}

/// Wall time, for the rate; no run sees it.
struct Clock(std::time::Instant);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "a command measures how long it took")]
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(words: &[&str]) -> String {
        let words = ["holo-sim"].iter().chain(words);
        Cli::try_parse_from(words).unwrap_err().to_string()
    }

    #[test]
    fn a_run_over_no_seeds_is_refused_for_it_could_not_fail() {
        assert!(refusal(&["run", "--seeds", "9..3"]).contains("9..3 holds no seed"));
        assert!(refusal(&["run", "--seeds", "4..4"]).contains("4..4 holds no seed"));
        assert!(refusal(&["mutants", "--seeds", "0"]).contains("0 is not in 1.."));
        assert_eq!(parse_seeds("3..9"), Ok(3..9));
    }

    #[test]
    fn the_hint_how_to_replay_names_the_planted_bug() {
        assert_eq!(replay_command(7, Plant::None), "holo-sim replay --seed 7");
        let planted = Plant::find("NoDriftMargin").unwrap();
        let command = replay_command(7, planted);
        assert_eq!(command, "holo-sim replay --seed 7 --mutant NoDriftMargin");
        assert!(Cli::try_parse_from(command.split(' ')).is_ok());
    }
}
