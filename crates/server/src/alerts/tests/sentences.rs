//! The first lines, as somebody reads them at night.

use super::super::alert::{Alert, Grade, Kind};
use super::super::body::{Lost, body, first_line};
use super::super::config::Format;
use super::super::message::Message;
use super::{of_job, of_node};
use serde_json::Value;

fn read(alerts: &[Alert]) -> String {
    let message = Message::of(alerts);
    format!("{}\n{}", first_line(&message), message.advice)
}

#[test]
fn the_first_line_says_what_where_and_how_much() {
    let one = [of_node(1, 0, Kind::NodeSilent, 1), of_job(2, 0, Kind::JobFault, 4, Some(1))];
    insta::assert_snapshot!(read(&one), @"
        WARNING: n001 (rack r0, PDU p0-1, leaf l0) went silent; job 4 (gpt) is hit
        If it does not come back by itself, look at power, network and agent: `lindos node n001`. Lindos fences silent nodes and starts their jobs again elsewhere.
        ");
    let leaf: Vec<Alert> =
        (0..30).map(|number| of_node(u64::from(number), 0, Kind::NodeSilent, number)).collect();
    let back: Vec<Alert> =
        (0..30).map(|number| of_node(u64::from(number), 0, Kind::NodeBack, number)).collect();
    let all = [leaf.clone(), back].concat();
    insta::assert_snapshot!(first_line(&Message::of(&all)), @"WARNING: 30 of 32 nodes of leaf l0 (n000, n001, n002 and 27 more) went silent; all of them are back already");
    insta::assert_snapshot!(read(&leaf), @"
        CRITICAL: 30 of 32 nodes of leaf l0 (n000, n001, n002 and 27 more) went silent
        They share leaf l0: look at that first (switch, power). Lindos fences silent nodes and starts their jobs again elsewhere.
        ");
    let pdu: Vec<Alert> = [1, 5, 9].map(|number| of_node(1, 0, Kind::NodeSilent, number)).into();
    insta::assert_snapshot!(read(&pdu), @"
        CRITICAL: 3 of 16 nodes of PDU p0-1 (n001, n005, n009) went silent
        They share PDU p0-1: look at that first (power). Lindos fences silent nodes and starts their jobs again elsewhere.
        ");
    let scattered = [of_node(1, 0, Kind::NodeOut, 0), of_node(2, 0, Kind::NodeOut, 101)];
    insta::assert_snapshot!(read(&scattered), @"
        WARNING: 2 nodes (n000, n101) taken out of service for gpu.xid.79
        Lindos has moved, or moves, the work elsewhere and tries to mend it; it will say so when a person is wanted. `lindos node n000`
        ");
    insta::assert_snapshot!(read(&[of_node(1, 0, Kind::PersonWanted, 7)]), @"
        CRITICAL: n007 (rack r1, PDU p0-1, leaf l0) waits for a technician
        Lindos has tried what it can. `lindos node n007` says what was found; when it is mended: `lindos repairs done n007`.
        ");
    insta::assert_snapshot!(read(&[of_job(1, 0, Kind::JobFailed, 4, None)]), @"
        WARNING: job 4 (gpt) failed: rank 0 on n001 ended first: exit status 1
        It is not started again. `lindos job 4` has its attempts, `lindos logs 4` its last words.
        ");
    let blamed = |job: u64| Alert {
        grade: Grade::Warning,
        class: "leaf l3".into(),
        words: "to blame: leaf l3 with 4 of the nodes (91 %): silent".into(),
        ..of_job(job, 0, Kind::Blamed, job, None)
    };
    insta::assert_snapshot!(read(&[blamed(1)]), @"
        WARNING: job 1 (gpt): to blame: leaf l3 with 4 of the nodes (91 %): silent
        Look at leaf l3 first: what the nodes share. `lindos events --job 1` has the evidence.
        ");
    insta::assert_snapshot!(read(&[blamed(1), blamed(2)]), @"
        WARNING: leaf l3 is to blame for faults of job 1 (gpt), job 2 (gpt)
        Look at leaf l3 first: what the nodes share. `lindos events --job 1` has the evidence.
        ");
    let failed: Vec<Alert> =
        (1..=5).map(|job| of_job(job, 0, Kind::JobFailed, job, None)).collect();
    insta::assert_snapshot!(read(&failed), @"
        WARNING: 5 jobs failed for good: job 1 (gpt), job 2 (gpt), job 3 (gpt) and 2 more
        They are not started again. `lindos jobs` lists them, `lindos logs 1` has the last words of the first.
        ");
    let over: Vec<Alert> =
        (0..30).map(|number| of_node(u64::from(number), 0, Kind::NodeBack, number)).collect();
    insta::assert_snapshot!(read(&over), @"
        RESOLVED: 30 of 32 nodes of leaf l0 (n000, n001, n002 and 27 more) are up again
        Nothing to do.
        ");
    let kinds = [Kind::NodeSilent, Kind::NodeBack, Kind::NodeSilent, Kind::NodeBack];
    let again: Vec<Alert> =
        (1..).zip(kinds).map(|(seq, kind)| of_node(seq, seq, kind, 1)).collect();
    insta::assert_snapshot!(first_line(&Message::again(&again)), @"WARNING: n001 (rack r0, PDU p0-1, leaf l0) went silent; it is back already (again, 2 times since it was told)");
}

#[test]
fn json_has_the_facts_and_slack_has_the_words() {
    let alerts: Vec<Alert> = (0..30)
        .map(|number| of_node(u64::from(number) + 1, 1_000, Kind::NodeSilent, number))
        .collect();
    let mut message = Message::of(&alerts);
    message.title.push_str(" <&>");
    let id = message.id("abc");
    assert_eq!(id, "abc-1-30-30");
    let lost = Lost { messages: 2, events: 9 };
    let json: Value = serde_json::from_slice(&body(Format::Json, &message, &id, lost)).unwrap();
    assert_eq!(json["count"], 30);
    assert_eq!(json["nodes"]["count"], 30);
    assert_eq!(json["nodes"]["first"].as_array().unwrap().len(), 20);
    assert_eq!(json["severity"], "critical");
    assert_eq!(json["kind"], "node_silent");
    assert_eq!(json["place"], "leaf l0");
    assert_eq!(json["given_up_before"]["events"], 9);
    assert_eq!(json["first_at"], 1_000);
    let slack: Value = serde_json::from_slice(&body(Format::Slack, &message, &id, lost)).unwrap();
    assert!(slack["text"].as_str().unwrap().ends_with(" &lt;&amp;&gt;"), "{slack}");
    let texts: Vec<&str> = slack["blocks"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|block| block["text"]["text"].as_str())
        .collect();
    insta::assert_snapshot!(texts.join("\n---\n"), @"
        :red_circle: *CRITICAL: 30 of 32 nodes of leaf l0 (n000, n001, n002 and 27 more) went silent &lt;&amp;&gt;*
        They share leaf l0: look at that first (switch, power). Lindos fences silent nodes and starts their jobs again elsewhere.
        ---
        • n000 silent for 5s; fencing it
        • n001 silent for 5s; fencing it
        • n002 silent for 5s; fencing it
        • n003 silent for 5s; fencing it
        • n004 silent for 5s; fencing it
        • n005 silent for 5s; fencing it
        • n006 silent for 5s; fencing it
        • n007 silent for 5s; fencing it
        … and 22 more: `lindos events`
        ");
    let small = slack["blocks"][2]["elements"][0]["text"].as_str().unwrap();
    assert!(small.contains("2 earlier messages (9 events)"), "{small}");
}
