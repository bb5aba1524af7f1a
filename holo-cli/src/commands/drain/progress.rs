//! Watching a drain to its end.

use std::time::Duration;

use holo_client::{Cluster, MemberView};
use holo_core::{ErrorCode, Failure, Retry};

use super::{Context, Report, read, tell_warnings};
use crate::clock::Deadline;
use crate::progress::Progress;
use crate::quantity;
use crate::signals::StopSignals;

/// Time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Time between two lines where no bar can be drawn.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Looks in a row that may fail: a node or the catalog's leader may be replaced meanwhile.
const BLIND_LOOKS_MAX: u32 = 3;

/// Watches until the catalog says that the node is empty. Warnings that come up meanwhile are told, beside `told`, which
/// were before: nodes may die while it goes on.
///
/// # Errors
///
/// [`ErrorCode::Cancelled`] for Ctrl-C and [`ErrorCode::DeadlineExceeded`] when `within` has passed: the drain goes on.
/// [`ErrorCode::Conflict`] when somebody took it back, and those of asking.
pub(crate) async fn follow(
    cluster: &Cluster,
    member: &MemberView,
    told: &[String],
    within: Option<Duration>,
    context: &Context,
) -> Result<Report, Failure> {
    let mut signals = StopSignals::catch()?;
    let name = &member.member.name;
    let goes_on = format!("the drain of {name} goes on");
    let reattach = format!("`holo drain {name}` watches it, `holo undrain {name}` takes it back");
    tokio::select! {
        ended = watch(cluster, member, told, context) => ended.map_err(|failure| match failure.code.retry() {
            // Whether it goes on is then not ours to say, but it does not end with us.
            Retry::Later | Retry::Unknown => failure.help(format!("the drain does not need this command; {reattach}")),
            Retry::Never => failure,
        }),
        signal = signals.next() => {
            Err(Failure::new(ErrorCode::Cancelled, format!("{signal}: {goes_on}")).help(reattach))
        }
        () = past(within) => {
            let time = quantity::given_duration(within.unwrap_or_default());
            let message = format!("not done within {time}: {goes_on}");
            Err(Failure::new(ErrorCode::DeadlineExceeded, message).help(reattach))
        }
    }
}

async fn watch(
    cluster: &Cluster,
    member: &MemberView,
    told: &[String],
    context: &Context,
) -> Result<Report, Failure> {
    let mut told = told.to_vec();
    let name = &member.member.name;
    let bar = Progress::items(&context.output, &format!("draining {name}"), "groups");
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut blind, mut last) = (0, None);
    let mut next_line = Deadline::after(Duration::ZERO);
    loop {
        looks.tick().await;
        let report = match read(cluster, member).await {
            Ok(report) => report,
            Err(failure) if failure.code.retry() != Retry::Never && blind < BLIND_LOOKS_MAX => {
                blind += 1;
                context.output.note(&format!("cannot see how far it is: {}", failure.message));
                continue;
            }
            Err(failure) => return Err(failure),
        };
        blind = 0;
        // Beside a bar nothing else says why it stands still.
        let waits = match context.output.shows_progress() {
            true => report.waits(),
            false => Vec::new(),
        };
        let news = report.warnings.iter().cloned().chain(waits);
        let news: Vec<String> = news.filter(|news| !told.contains(news)).collect();
        tell_warnings(&news, context);
        told.extend(news);
        bar.at(report.groups_done(), report.groups_total, &bar_words(&report));
        if let Some(verdict) = report.verdict() {
            return verdict.map(|()| report);
        }
        if last.as_ref() != Some(&report) && next_line.is_past() && !context.output.shows_progress()
        {
            match context.output.is_jsonl() {
                true => context.output.json(&report),
                false => context.output.note(&report.in_words()),
            }
            next_line = Deadline::after(LINE_INTERVAL);
        }
        last = Some(report);
    }
}

fn bar_words(report: &Report) -> String {
    let bytes = report.bytes_in_words();
    match report.eta_ms {
        Some(eta) => {
            format!("{bytes}, {} left", quantity::rough_duration(Duration::from_millis(eta)))
        }
        None => format!("{bytes} left"),
    }
}

async fn past(within: Option<Duration>) {
    match within {
        Some(within) => Deadline::after(within).passed().await,
        None => std::future::pending().await,
    }
}
