//! What the readers take, what they leave out, and what they refuse.

use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;

fn read_csv(text: &str) -> Result<Trace, TraceError> {
    read("jobs.csv", text.as_bytes(), &ReadOptions::default())
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

const THREE: &str = "timestamp,duration,num_gpus,gpu_time,cluster\n\
                     2017-10-09 07:01:55,66.0,1,66.0,11cb48\n\
                     2017-10-09 07:01:50,10.0,8,80.0,\"a, \"\"b\"\"\"\n\
                     2017-10-09 07:01:55,5.5,16,88.0,11cb48\n";

#[test]
fn rows_come_by_submission_and_then_as_they_stand() {
    let trace = read_csv(THREE).unwrap();
    let told: Vec<_> =
        trace.rows.iter().map(|row| (row.line, row.duration.0, row.size.gpus())).collect();
    assert_eq!(told, [(3, 10_000, 8), (2, 66_000, 1), (4, 5_500, 16)]);
    assert_eq!(trace.rows[0].team, "a, \"b\"");
    assert_eq!(trace.rows[1].submit.since(trace.rows[0].submit), Millis(5000));
    assert_eq!(trace.skipped.count(), 0);
}

#[test]
fn gzip_reads_as_the_plain_file_does_in_one_piece_or_in_several() {
    let plain = read_csv(THREE).unwrap();
    let options = ReadOptions::default();
    assert_eq!(read("jobs.csv.gz", &gzip(THREE), &options).unwrap(), plain);
    let (first, second) = THREE.split_at(60);
    let pieces = [gzip(first), gzip(second)].concat();
    assert_eq!(read("whatever", &pieces, &options).unwrap(), plain);
}

#[test]
fn other_delimiters_columns_and_a_byte_order_mark() {
    let text = "\u{feff}JobID;Submit;Elapsed;Nodes;GPUs per node;Account;User;Limit;Priority\n\
                j7; 100 ;1-00:00:00;2;4;blue;ann;2-00:00:00;-3\n";
    let trace = read_csv(text).unwrap();
    let expected = Row {
        line: 2,
        id: "j7".into(),
        submit: Time(100_000),
        duration: Millis(86_400_000),
        size: Size::Gang { nodes: 2, gpus_per_node: 4 },
        limit: Some(Millis(2 * 86_400_000)),
        team: "blue".into(),
        user: "ann".into(),
        priority: -3,
    };
    assert_eq!(trace.rows, [expected]);
    let columns = "submit=a,duration=b,gpus=c".parse().unwrap();
    let options = ReadOptions { columns, format: None };
    let trace = read("x.csv", b"c\tb\ta\n4\t60\t9\n", &options).unwrap();
    assert_eq!((trace.rows[0].size, trace.rows[0].submit), (Size::Gpus(4), Time(9000)));
}

#[test]
fn rows_that_make_no_sense_are_counted_with_their_first_line() {
    let text = "submit,duration,gpus,limit\n1,10,1,\n2,-5,1,\n3,0,1,\n4,10,0,\n5,10,1.5,\n\
                6,soon,1,\nlater,10,1,\n,10,1,\n9,10,-1,\n10,10\n11,10,2,never\n";
    let trace = read_csv(text).unwrap();
    let told: Vec<_> = trace
        .skipped
        .list()
        .iter()
        .map(|skipped| (skipped.reason.as_str(), skipped.count, skipped.first_line))
        .collect();
    assert_eq!(
        told,
        [
            ("the duration is zero or negative", 2, 3),
            ("it has no GPUs", 2, 5),
            ("a size is not a whole number", 1, 6),
            ("the duration is not a number of seconds", 1, 7),
            ("the submit time is neither a number nor a date", 1, 8),
            ("no submit time", 1, 9),
            ("it does not say its GPUs", 1, 11),
        ]
    );
    // A limit that cannot be read is no reason to leave a job out.
    assert_eq!(trace.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 12]);
}

#[test]
fn files_that_are_no_traces_say_what_they_are() {
    let options = ReadOptions::default();
    let error = |name: &str, bytes: &[u8]| read(name, bytes, &options).unwrap_err().to_string();
    assert!(error("a.csv", b"").contains("the file is empty"));
    assert!(error("a.csv", b" \n\n").contains("the file is empty"));
    assert!(error("a.csv", b"PNG \xff\xfe").contains("byte 4 is not UTF-8"));
    assert!(error("a.csv", b"just words\nand more\n").contains("one column only"));
    assert!(error("a.csv", b"a,b,c\n1,2,3\n").contains("the header has a, b, c"));
    let header_only = error("a.csv", b"submit,duration,gpus\n");
    assert!(header_only.contains("nothing below the header"), "{header_only}");
    let no_rows = error("a.csv", b"submit,duration,gpus\n1,-1,1\n");
    assert!(no_rows.contains("no row of the file is a job; line 2: the duration"), "{no_rows}");
    let mut cut = gzip(THREE);
    cut.truncate(cut.len() - 12);
    assert!(error("a.csv.gz", &cut).contains("the gzip data is damaged"));
    let mut bent = gzip(THREE);
    let middle = bent.len() / 2;
    bent[middle] ^= 0xff;
    assert!(error("a.csv.gz", &bent).contains("hint: fetch the file again"));
}

const SWF: &str = "; Version: 2.2\n; MaxProcs: 16\n\
    1 0 5 100 4 -1 -1 8 3600 -1 1 3 2 -1 1 -1 -1 -1\n\
    2 10 -1 -1 4 -1 -1 4 3600 -1 0 3 2 -1 1 -1 -1 -1\n\
    3 20 0 50 16 -1 -1 -1 -1 -1 1 -1 -1 -1 1 -1 -1 -1\n\
    4 30 0 50 -1 -1 -1 -1 -1 -1 1 -1 -1 -1 1 -1 -1 -1\n\
    5 40 0 0 1 -1 -1 1 60 -1 1 1 1 -1 1 -1 -1 -1\n\
    6 50 0 1\n\n";

#[test]
fn the_workload_format_knows_comments_and_unknown_fields() {
    for name in ["log.swf", "log.txt", "log.swf.gz"] {
        let trace = read(name, SWF.as_bytes(), &ReadOptions::default()).unwrap();
        let rows = &trace.rows;
        let told: Vec<_> =
            rows.iter().map(|row| (row.line, row.size.gpus(), row.limit.map(|l| l.0))).collect();
        assert_eq!(told, [(3, 8, Some(3_600_000)), (5, 16, None)]);
        assert_eq!((rows[0].team.as_str(), rows[0].user.as_str()), ("group2", "user3"));
        assert_eq!((rows[1].team.as_str(), rows[1].user.as_str()), ("", ""));
        assert_eq!(rows[1].submit, Time(20_000));
        let skipped: Vec<_> =
            trace.skipped.list().iter().map(|s| (s.reason.as_str(), s.first_line)).collect();
        assert_eq!(
            skipped,
            [
                ("it has no run time (-1): it never ran", 4),
                ("it has no GPUs", 6),
                ("the duration is zero or negative", 7),
                ("it has not 18 fields", 8),
            ]
        );
    }
}

#[test]
fn what_is_no_workload_format_is_refused_at_its_first_job() {
    let error = read("log.swf", b"; a comment\n1 2 3\n", &ReadOptions::default()).unwrap_err();
    assert!(error.message.contains("line 2: a job has 18 fields"), "{error}");
}
