//! `lindos job ID` and `lindos why ID`

use super::Style;
use super::number::{loss, or_dash, rate, steps};
use super::table::{Builder, pairs};
use super::time::span;
use super::{ledger, number};
use lindos_api::user::{
    AttemptSummary, DryRun, JobDetail, JobSummary, RankView, ReplicaView, StragglerView, WarmSpare,
    WarmView, Why,
};
use lindos_model::Column;
use lindos_model::blame::{Blame, Culprit};
use lindos_model::reason::Charge;
use lindos_model::{SlowSign, Straggler};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// More ranks than this are counted by state and node instead of listed.
const RANKS_LISTED: usize = 32;
const NAMES_LISTED: usize = 4;
/// Of more replicas than this, only those that do not train are listed, and no more than so many.
const REPLICAS_LISTED: usize = 32;
/// Attempts listed; a long job may have hundreds.
const ATTEMPTS_LISTED: usize = 20;

pub fn detail(job: &JobDetail, style: &Style) -> String {
    let summary = &job.summary;
    let mut rows = vec![
        ("job", format!("{} ({})", summary.job, summary.full_name())),
        ("user", or_dash(Some(summary.user.as_str()).filter(|user| !user.is_empty()))),
        ("state", state(job)),
        ("command", shell_words(&job.command)),
        ("gang", gang(summary)),
        ("priority", summary.priority.to_string()),
        ("submitted", style.local_and_ago(summary.submitted_at)),
    ];
    if !summary.team.is_empty() {
        rows.push(("team", summary.team.clone()));
    }
    if summary.nodes_held > 0 {
        rows.push(("reserved", reserved(summary, style)));
    }
    if let Some(at) = summary.started_at {
        rows.push(("started", style.local_and_ago(at)));
    }
    if let Some(at) = summary.ended_at {
        rows.push(("ended", style.local_and_ago(at)));
    }
    rows.push(("step", steps(summary.step, summary.total_steps)));
    rows.push(("loss", format!("{} → {}", loss(job.first_loss), loss(job.last_loss))));
    rows.push(("tokens/s", job.tokens_per_second.map_or_else(|| "-".into(), rate)));
    rows.push((
        "checkpoint",
        job.checkpoint_step.map_or("-".into(), |step| format!("step {step}")),
    ));
    if let Some(slow) = &job.straggler {
        rows.extend(slowed_by(slow, style));
    }
    rows.push(("faults", job.faults.to_string()));
    rows.push((
        "retries left",
        format!(
            "{} infrastructure, {} user",
            job.retries_left_infrastructure, job.retries_left_user
        ),
    ));
    rows.push(("ETTR", ettr(job)));
    let spares = job.attempts.last().map_or(&[][..], |newest| &newest.spares);
    if !spares.is_empty() {
        rows.push(("spares", first_of(spares)));
    }
    rows.extend(job.attempts.last().and_then(|newest| newest.warm.as_ref()).map(warm));
    let mut text = pairs(&rows);
    if !job.attempts.is_empty() {
        text.push('\n');
        text.push_str(&attempts(&job.attempts, style));
    }
    if let Some(attempt) = job.attempts.last().filter(|newest| !newest.replicas.is_empty()) {
        text.push('\n');
        text.push_str(&replicas(&attempt.replicas, style));
    }
    if !job.ranks.is_empty() {
        text.push('\n');
        text.push_str(&ranks(&job.ranks, style));
    }
    if job.ledger.total_gpu_ms > 0 {
        text.push('\n');
        text.push_str(&ledger::table(&job.ledger, style.width));
    }
    text
}

fn slowed_by(slow: &StragglerView, style: &Style) -> [(&'static str, String); 2] {
    let Straggler { rank, sign, by, since, own, peers, .. } = slow.straggler;
    let more = match slow.straggler.ranks {
        1 => String::new(),
        ranks => format!(" and {} more", ranks - 1),
    };
    let (cost, since) = (slow.straggler.cost_percent(), style.ago(since.0));
    let percent = |permille: u32| (permille + 5) / 10;
    let how = match sign {
        SlowSign::WaitsLeast => {
            format!("it waits {} % of the time, they {} %; {by}", percent(own), percent(peers))
        }
        SlowSign::FewerSteps => format!("{own} steps in 1,000 s, where they make {peers}; {by}"),
    };
    let who = format!("rank {rank}{more} on {}", slow.node);
    [("slowed by", format!("{who}, since {since}: the others lose {cost} %")), ("", how)]
}

fn gang(summary: &JobSummary) -> String {
    let gpus = number::counted(summary.gpus, "GPU");
    let nodes = number::counted(summary.nodes, "node");
    match summary.nodes_running {
        now if now > 0 && now < summary.nodes => format!("{nodes}, {gpus}; runs with {now} now"),
        _ => format!("{nodes}, {gpus}"),
    }
}

/// What is held for a job that waits, and when it starts there.
fn reserved(summary: &JobSummary, style: &Style) -> String {
    let nodes = number::counted(summary.nodes_held, "node");
    match summary.reserved_start {
        Some(at) if at > style.now => {
            format!("{nodes}, from {} at the latest ({})", style.local(at), style.ahead(at))
        }
        Some(_) => format!("{nodes}, as soon as they are free"),
        None => format!("{nodes}, until the rest is free"),
    }
}

fn state(job: &JobDetail) -> String {
    match &job.summary.reason {
        Some(reason) => format!("{}: {reason}", job.summary.state),
        None => job.summary.state.to_string(),
    }
}

/// Productive ÷ the time in which the job held its gang.
/// Where its processes wait for a rank.
fn warm(warm: &WarmView) -> (&'static str, String) {
    let ready: Vec<String> = named(&warm.spares, true);
    let starting: Vec<String> = named(&warm.spares, false);
    let mut said = Vec::new();
    if !ready.is_empty() {
        said.push(first_of(&ready));
    }
    if !starting.is_empty() {
        said.push(format!("{} (starting)", first_of(&starting)));
    }
    if warm.beside > 0 {
        said.push(format!("beside its ranks on {} of {} nodes", warm.beside_ready, warm.beside));
    }
    let text = match (said.is_empty(), warm.offered) {
        (false, _) => said.join("; "),
        (true, true) => "nothing".to_string(),
        (true, false) => "nothing: its program has not called lindos.stand_by".to_string(),
    };
    ("warm", text)
}

fn named(spares: &[WarmSpare], ready: bool) -> Vec<String> {
    spares.iter().filter(|it| it.ready == ready).map(|it| it.node.clone()).collect()
}

fn ettr(job: &JobDetail) -> String {
    match job.ledger.columns.get(Column::Productive.name()) {
        Some(_) if job.ledger.total_gpu_ms > 0 => ledger::percent(&job.ledger),
        _ => "-".to_string(),
    }
}

/// A command as one could type it.
fn shell_words(words: &[String]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    let quoted: Vec<String> = words
        .iter()
        .map(|word| {
            if !word.is_empty() && word.chars().all(is_plain) {
                word.clone()
            } else {
                format!("'{}'", word.replace('\'', r"'\''"))
            }
        })
        .collect();
    quoted.join(" ")
}

fn attempts(attempts: &[AttemptSummary], style: &Style) -> String {
    let header = ["ATTEMPT", "STARTED", "RAN", "FROM", "TO", "CHARGED", "END"];
    let mut table = Builder::new(style.width, &header).right(&[0, 2, 3, 4]);
    let skipped = attempts.len().saturating_sub(ATTEMPTS_LISTED);
    for attempt in &attempts[skipped..] {
        table.row([
            attempt.epoch.to_string(),
            style.ago(attempt.started_at),
            span(attempt.started_at, attempt.ended_at.unwrap_or(style.now)).to_string(),
            attempt.resumed_from.map_or_else(|| "start".to_string(), |step| step.to_string()),
            or_dash(attempt.last_step),
            attempt.charge.map_or("-", charge).to_string(),
            attempt.end_reason.as_ref().map_or_else(|| "-".to_string(), ToString::to_string),
        ]);
    }
    let mut text = table.finish();
    if skipped > 0 {
        let _ = writeln!(text, "({skipped} earlier attempts: --json)");
    }
    let blamed = attempts.iter().rev().find_map(|a| Some((a.epoch, a.blame.as_ref()?)));
    if let Some((epoch, blame)) = blamed {
        text.push_str(&verdict(epoch, blame));
    }
    text
}

/// The newest verdict, with what spoke for it and how much (in decibans).
fn verdict(epoch: u32, blame: &Blame) -> String {
    let mut text = match blame.culprit {
        Culprit::Unknown => format!("attempt {epoch}: to blame is {}\n", blame.culprit),
        _ => format!("attempt {epoch}: to blame is {} ({} %)\n", blame.culprit, blame.percent),
    };
    for clue in &blame.clues {
        let _ = writeln!(text, "  {:+4} dB  {clue}", clue.weight);
    }
    text
}

/// Names, of which more than a few are only counted.
fn first_of(names: &[String]) -> String {
    let first = names.iter().take(NAMES_LISTED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_LISTED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn replicas(replicas: &[ReplicaView], style: &Style) -> String {
    let is_listed =
        |replica: &&ReplicaView| replicas.len() <= REPLICAS_LISTED || replica.state != "training";
    let listed: Vec<&ReplicaView> =
        replicas.iter().filter(is_listed).take(REPLICAS_LISTED).collect();
    let mut table = Builder::new(style.width, &["REPLICA", "EPOCH", "STATE", "SINCE", "WHY"]);
    table = table.right(&[0, 1]);
    for replica in &listed {
        table.row([
            replica.replica.to_string(),
            replica.epoch.to_string(),
            replica.state.clone(),
            replica.since.map_or_else(|| "-".to_string(), |at| style.ago(at)),
            or_dash(replica.reason.as_ref()),
        ]);
    }
    let mut text = if listed.is_empty() { String::new() } else { table.finish() };
    if listed.len() < replicas.len() {
        let train = replicas.iter().filter(|replica| replica.state == "training").count();
        let _ = writeln!(text, "({train} of {} replicas train, each one: --json)", replicas.len());
    }
    text
}

fn charge(charge: Charge) -> &'static str {
    match charge {
        Charge::Infrastructure => "infra",
        Charge::User => "user",
        Charge::Nobody | Charge::Final => "-",
    }
}

fn ranks(ranks: &[RankView], style: &Style) -> String {
    if ranks.len() > RANKS_LISTED {
        return counted_ranks(ranks, style);
    }
    let header = ["RANK", "NODE", "PID", "STATE", "STEP", "EXIT"];
    let mut table = Builder::new(style.width, &header).right(&[0, 2, 4]);
    for rank in ranks {
        table.row([
            rank.rank.to_string(),
            rank.node.clone(),
            if rank.pid == 0 { "-".to_string() } else { rank.pid.to_string() },
            rank.state.clone(),
            or_dash(rank.step),
            number::or_dash(rank.exit.as_ref()),
        ]);
    }
    let mut text = table.finish();
    for rank in ranks {
        if let Some(at) = &rank.at {
            let _ = writeln!(text, "rank {} stands in {at}", rank.rank);
        }
    }
    text
}

/// Ranks by state, with the range of their steps: where one is behind, it shows.
fn counted_ranks(ranks: &[RankView], style: &Style) -> String {
    let mut states: BTreeMap<&str, Vec<&RankView>> = BTreeMap::new();
    for rank in ranks {
        states.entry(&rank.state).or_default().push(rank);
    }
    let mut table = Builder::new(style.width, &["STATE", "RANKS", "STEPS"]).right(&[1]);
    for (state, of_state) in states {
        let steps: Vec<u64> = of_state.iter().filter_map(|rank| rank.step).collect();
        let range = match (steps.iter().min(), steps.iter().max()) {
            (Some(low), Some(high)) if low == high => low.to_string(),
            (Some(low), Some(high)) => format!("{low} to {high}"),
            _ => "-".to_string(),
        };
        table.row([state.to_string(), of_state.len().to_string(), range]);
    }
    table.finish() + &format!("({} ranks, each one: --json)\n", ranks.len())
}

pub fn why(why: &Why) -> String {
    said(&why.answer, why.when.as_deref(), &why.hints)
}

/// `lindos submit --dry-run`
pub fn dry_run(answer: &DryRun) -> String {
    said(&answer.answer, answer.when.as_deref(), &answer.hints)
}

/// One sentence, when it will be otherwise, and what would help.
fn said(answer: &str, when: Option<&str>, hints: &[String]) -> String {
    let mut text = format!("{answer}\n");
    if let Some(when) = when {
        let _ = writeln!(text, "{when}");
    }
    for hint in hints {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_job_with_a_fault_behind_it() {
        let text = detail(&sample::detail(), &sample::style());
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text, @"
        job           3 (tiny-gpt)
        user          ada
        state         running
        command       python3 train.py --steps 5000
        gang          2 nodes, 4 GPUs
        priority      0
        submitted     2027-01-15T08:00:00+00:00 (3m 20s ago)
        started       2027-01-15T08:00:00+00:00 (3m 19s ago)
        step          1200/5000
        loss          4.1700 → 2.3104
        tokens/s      41.2k
        checkpoint    step 1000
        faults        1
        retries left  999 infrastructure, 1 user
        ETTR          92.3%

        ATTEMPT  STARTED        RAN   FROM    TO  CHARGED  END
              1  3m 19s ago   59.7s  start  1040  infra    rank 1 on local-0 ended
                                                           first: SIGKILL
              2  2m 19s ago  2m 19s   1000  1200  -        -
        attempt 1: to blame is local-0 (97 %)
           +24 dB  rank 1 on local-0 ended first (SIGKILL)
           +10 dB  local-0 was to blame for 2 faults of late

        RANK  NODE      PID  STATE    STEP  EXIT
           0  local-0  4711  running  1200  -
           1  local-0  4712  running  1200  -
           2  local-1  4713  running  1200  -
           3  local-1  4714  running  1200  -

        COLUMN      GPU-MINUTES      %
        productive        10.00   92.3
        lost               0.50    4.6
        startup            0.33    3.1
        total             10.83  100.0
        ");
    }

    #[test]
    fn what_is_held_for_a_job_is_shown() {
        let mut waiting = sample::job();
        (waiting.nodes_held, waiting.reserved_start) = (1, None);
        assert_eq!(reserved(&waiting, &sample::style()), "1 node, until the rest is free");
        (waiting.nodes_held, waiting.reserved_start) = (2, Some(sample::style().now + 61_000));
        insta::assert_snapshot!(reserved(&waiting, &sample::style()), @"
        2 nodes, from 2027-01-15T08:04:21+00:00 at the latest (in 1m 1s)
        ");
    }

    #[test]
    fn many_ranks_are_counted() {
        let mut job = sample::detail();
        let one = job.ranks[0].clone();
        job.ranks = (0..4096)
            .map(|rank| RankView { rank, step: Some(1200 + u64::from(rank) % 2), ..one.clone() })
            .collect();
        insta::assert_snapshot!(ranks(&job.ranks, &sample::style()), @"
        STATE    RANKS  STEPS
        running   4096  1200 to 1201
        (4096 ranks, each one: --json)
        ");
    }

    #[test]
    fn replicas_are_listed_and_of_very_many_those_that_do_not_train() {
        let replica = |number: u32, epoch, state: &str| ReplicaView {
            replica: number,
            epoch,
            state: state.to_string(),
            since: Some(sample::style().now - 30_000),
            reason: None,
        };
        let mut job = sample::detail();
        let stopping = ReplicaView {
            since: None,
            reason: Some(sample::end_reason()),
            ..replica(2, 1, "stopping")
        };
        job.attempts[1].replicas =
            vec![replica(0, 1, "training"), replica(1, 3, "launched"), stopping.clone()];
        assert!(detail(&job, &sample::style()).contains("REPLICA  EPOCH"));
        insta::assert_snapshot!(replicas(&job.attempts[1].replicas, &sample::style()), @"
        REPLICA  EPOCH  STATE     SINCE    WHY
              0      1  training  30s ago  -
              1      3  launched  30s ago  -
              2      1  stopping  -        rank 1 on local-0 ended first: SIGKILL
        ");
        let mut many: Vec<ReplicaView> = (0..256).map(|n| replica(n, 1, "training")).collect();
        many[2] = stopping;
        insta::assert_snapshot!(replicas(&many, &sample::style()), @"
        REPLICA  EPOCH  STATE     SINCE  WHY
              2      1  stopping  -      rank 1 on local-0 ended first: SIGKILL
        (255 of 256 replicas train, each one: --json)
        ");
        many[2] = replica(2, 4, "training");
        assert_eq!(
            replicas(&many, &sample::style()),
            "(256 of 256 replicas train, each one: --json)\n"
        );
    }

    #[test]
    fn commands_can_be_typed_again() {
        let words = ["sh", "-c", "echo it's", ""].map(String::from);
        assert_eq!(shell_words(&words), r"sh -c 'echo it'\''s' ''");
    }

    #[test]
    fn why_is_one_sentence_and_what_would_help() {
        insta::assert_snapshot!(why(&sample::why()), @"
        job 4 waits: it can never start on this fleet: it wants 9 nodes with 2 GPUs each, and the fleet has 3 such nodes
        hint: ask for 3 nodes or fewer
        ");
    }
}
