//! What a scrape says.

use super::super::metrics::metrics;
use super::*;
use crate::alerts::Figures;
use crate::tally::Tally;
use lindos_model::{Outcome, Remedy, TrailEntry, TrailKind};

/// The values by name and labels, read as the format is written. Each is a number.
fn parsed(text: &str) -> BTreeMap<String, String> {
    let mut samples = BTreeMap::new();
    let mut families: Vec<&str> = Vec::new();
    let body = text.strip_suffix("# EOF\n").expect("it ends with its end");
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            assert!(["gauge", "counter"].contains(&kind), "{line}");
            assert!(!families.contains(&name), "{name} is there twice");
            families.push(name);
        } else if !line.starts_with("# HELP ") {
            let (key, value) = line.rsplit_once(' ').expect("a sample has a value");
            let family = families.last().expect("its family comes before it");
            assert!(key.starts_with(family), "{key} under {family}");
            value.parse::<f64>().expect("a value is a number");
            assert!(samples.insert(key.to_string(), value.to_string()).is_none(), "{key}");
        }
    }
    samples
}

#[test]
fn a_scrape_counts_nodes_tickets_jobs_and_gpu_time() {
    let mut told = Told::under(super::health::half_may_be_out(), nodes(6));
    told.run(job(2));
    told.submit(job(6));
    told.find(5, super::health::lost());
    told.minutes(1).find(4, super::health::fallen_off());
    let mut tally = Tally::default();
    let what = TrailKind::RemedyOver { remedy: Remedy::Reboot, outcome: Outcome::Unsupported };
    tally.note(&TrailEntry { seq: 1, at: told.now, job: None, epoch: None, node: None, what });
    let samples = parsed(&metrics(&told.view(), &tally, &Figures::default(), 77));
    let of =
        |key: &str| samples.get(key).unwrap_or_else(|| panic!("no {key} in {samples:#?}")).as_str();
    assert_eq!(of(r#"lindos_nodes{state="up"}"#), "6");
    assert_eq!(of("lindos_nodes_in_service"), "4");
    assert_eq!(of(r#"lindos_nodes_out{stage="waiting"}"#), "1");
    assert_eq!(of(r#"lindos_nodes_out{stage="mending"}"#), "1");
    assert_eq!(of(r#"lindos_findings{class="gpu.missing"}"#), "1");
    assert_eq!(of("lindos_tickets_opened_total"), "2");
    assert_eq!(of("lindos_tickets_closed_total"), "0");
    assert_eq!(of(r#"lindos_remedies_total{remedy="reboot",outcome="unsupported"}"#), "1");
    assert_eq!(of(r#"lindos_jobs{state="queued"}"#), "1");
    assert_eq!((of("lindos_queue_jobs"), of("lindos_queue_gpus")), ("1", "48"));
    assert_eq!(of(r#"lindos_faults_total{charge="user"}"#), "0");
    assert_eq!(of("lindos_journal_records_total"), "77");
    assert_eq!(of(r#"lindos_gpu_time_seconds{column="repair"}"#), "480.0");
    let columns = samples.iter().filter(|(key, _)| key.starts_with("lindos_gpu_time_seconds"));
    let sum: f64 = columns.map(|(_, seconds)| seconds.parse::<f64>().unwrap()).sum();
    assert!((sum - 6.0 * 8.0 * 60.0).abs() < 1e-6, "the columns sum to the fleet: {sum}");
    let goodput: f64 = of("lindos_goodput_ratio").parse().unwrap();
    assert!((0.0..=1.0).contains(&goodput));
}

#[test]
fn no_check_can_make_series_without_end() {
    let mut told = Told::under(super::health::half_may_be_out(), nodes(4));
    let class = |number: u32| format!("disk.made_up_{number}").parse().unwrap();
    for number in 0..150 {
        let mut finding = super::health::lost();
        (finding.class, finding.severity) = (class(number), lindos_model::finding::Severity::Info);
        told.find(number % 4, finding);
    }
    let samples = parsed(&metrics(&told.view(), &Tally::default(), &Figures::default(), 0));
    let classes = samples.keys().filter(|key| key.starts_with("lindos_findings{"));
    assert_eq!(classes.count(), 101);
    assert_eq!(samples[r#"lindos_findings{class="other"}"#], "50");
}
