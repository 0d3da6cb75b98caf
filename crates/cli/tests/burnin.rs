//! `lindos burnin` end to end: a node alone, a pair over real sockets, reports that are signed.

mod support;

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use support::{Ended, Lab};

const KEY: [u8; 32] = [7; 32];

/// The report of a burn-in that may have failed, and its exit status.
fn report(lab: &Lab, words: &[&str]) -> (Value, i32) {
    let ended = lab.output(["burnin", "--seconds", "1", "--json"].iter().chain(words));
    let report = serde_json::from_str(&ended.stdout)
        .unwrap_or_else(|error| panic!("{error}: {} {}", ended.stdout, ended.stderr));
    (report, ended.code)
}

fn verdict(report: &Value, test: &str) -> String {
    let tests = report["report"]["tests"].as_array().unwrap();
    let found = tests.iter().find(|entry| entry["name"] == test);
    found.unwrap_or_else(|| panic!("{test}: {report}"))["verdict"].as_str().unwrap().to_string()
}

/// It wrote its report, and said in this way that the node did not pass.
#[track_caller]
fn does_not_pass(ended: &Ended, words: &str) {
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains(words) && ended.stderr.contains("hint:"), "{ended:?}");
    assert!(ended.stdout.contains("TEST "), "{ended:?}");
}

/// The other end of a pair, until it is dropped.
struct Server(Child);

impl Server {
    fn start(lab: &Lab) -> (Server, String) {
        let mut command = lab.lindos(["burnin", "--serve", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("the other end of a burn-in, on "), "{line}");
        let address = line.trim().rsplit(' ').next().unwrap().to_string();
        (Server(child), address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn this_node_is_tried_and_the_report_names_every_part() {
    let lab = Lab::new();
    let (report, code) = report(&lab, &["--only", "cpu,memory,disk,network", "--memory", "1"]);
    assert_eq!(code, 0, "{report}");
    assert_eq!(verdict(&report, "cpu.bits"), "pass");
    assert_eq!(verdict(&report, "memory.bits"), "pass");
    assert_eq!(verdict(&report, "network.bits"), "skipped");
    assert!(["pass", "skipped"].contains(&verdict(&report, "disk.bits").as_str()));
    assert_eq!(report["signature"], Value::Null);
}

#[test]
fn a_table_for_people_fits_the_width() {
    let lab = Lab::new();
    let ended = lab.output(["burnin", "--seconds", "1", "--only", "cpu"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.contains("\ncpu.bits "), "{}", ended.stdout);
    assert!(ended.stdout.lines().all(|line| line.chars().count() <= 80), "{}", ended.stdout);
}

#[test]
fn two_ends_are_compared_over_a_socket() {
    let lab = Lab::new();
    let (server, address) = Server::start(&lab);
    let (well, code) = report(&lab, &["--only", "network", "--peer", &address]);
    assert_eq!(code, 0, "{well}");
    assert_eq!(verdict(&well, "network.bits"), "pass");
    assert_eq!(verdict(&well, "network.peer"), "pass");
    drop(server);
    let (gone, code) = report(&lab, &["--only", "network", "--peer", &address]);
    assert_eq!((verdict(&gone, "network.bits").as_str(), code), ("fail", 1));
}

#[test]
fn figures_that_are_not_reached_end_in_status_1() {
    let lab = Lab::new();
    lab.write("fast.toml", "cpu_rounds_per_s = 1e12\n");
    let words = ["burnin", "--seconds", "1", "--only", "cpu", "--platform", "fast.toml"];
    does_not_pass(&lab.output(words), "the burn-in failed: cpu.speed");
}

#[test]
fn a_report_that_was_altered_or_signed_with_another_key_is_told() {
    let lab = Lab::new();
    lab.write("key", KEY);
    lab.write("other", [8; 32]);
    let words = ["burnin", "--seconds", "1", "--only", "cpu", "--node", "n7"];
    let ended = lab.output(words.iter().chain(&["--key", "key", "--out", "report.json"]));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("the report is in report.json, signed with key"));
    let verify = |file: &str, key: &str| lab.output(["burnin", "verify", file, "--key", key]);
    let genuine = verify("report.json", "key");
    assert_eq!(genuine.code, 0, "{}", genuine.stderr);
    assert!(genuine.stdout.contains("node ") && genuine.stderr.starts_with("genuine: "));
    verify("report.json", "other").fails(1, &["wrong key", "hint:"]);
    let text = std::fs::read_to_string(lab.path("report.json")).unwrap();
    lab.write("altered.json", text.replace("\"n7\"", "\"n8\""));
    verify("altered.json", "key").fails(1, &["was altered", "hint:"]);
    lab.write("unsigned.json", r#"{"report": {}, "signature": null}"#);
    verify("unsigned.json", "key").fails(1, &["not signed", "hint:"]);
    verify("key", "key").fails(2, &["key", "hint:"]);
}

#[test]
fn nonsense_is_refused_before_anything_is_begun() {
    let lab = Lab::new();
    lab.write("short", "abc");
    lab.write("odd.toml", "gpu_tflop = 1\n");
    let fails = |words: &[&str], parts: &[&str]| {
        lab.output(["burnin", "--seconds", "60"].iter().chain(words)).fails(2, parts);
    };
    fails(&["--key", "short"], &["short is no key", "hint: make one"]);
    fails(&["--key", "nowhere"], &["nowhere: No such file", "hint: make one"]);
    fails(&["--out", "no/such/report.json"], &["no report can be written", "hint:"]);
    fails(&["--platform", "hgx-h10"], &["hint: did you mean `hgx-h100`?"]);
    fails(&["--platform", "odd.toml"], &["odd.toml:1", "hint: did you mean `gpu_tflops`?"]);
    fails(&["--platform", "no.toml"], &["no.toml: No such file", "hint:"]);
    fails(&["--only", "gpus"], &["gpu"]);
    fails(&["--minutes", "1"], &["cannot be used with"]);
    fails(&["--memory", "95"], &["95 is not in 1..=90"]);
}

#[test]
fn nothing_tested_is_no_pass() {
    let lab = Lab::new();
    let words = ["burnin", "--seconds", "1", "--only", "gpu", "--cuda", "/nonexistent/libcuda.so"];
    does_not_pass(&lab.output(words), "nothing was tested");
    let (report, code) =
        report(&lab, &["--only", "gpu", "--cuda", "/nonexistent.so", "--platform", "hgx-h100"]);
    assert_eq!((verdict(&report, "gpu.count").as_str(), code), ("fail", 1));
}

/// `libcuda.so` and `libcublas.so` as the tests of crates/hardware have them.
fn fake_cuda(lab: &Lab) -> PathBuf {
    let library = lab.path("libfake-cuda.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hardware/testdata/fake_cuda.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.args(["--edition", "2024", "-O", "--crate-type", "cdylib", "-o"]);
    let output = command.arg(&library).arg(source).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

#[test]
fn gpus_are_found_through_the_libraries_that_are_named() {
    let lab = Lab::new();
    let library = fake_cuda(&lab);
    // A small memory, so that the products are small.
    let small = "0.memory 1048576\n1.memory 1048576\n";
    let well = lab.write("well", format!("count 2\n{small}"));
    let report = of_gpus(&lab, &library, &well);
    assert_eq!(report["report"]["verdict"], "pass", "{report}");
    for test in ["gpu.exact", "gpu.repeat", "gpu.peers", "gpu.memory"] {
        assert_eq!(verdict(&report, test), "pass", "{report}");
    }
    let flips = lab.write("flips", format!("count 2\n{small}1.flip_product 1\n"));
    let report = of_gpus(&lab, &library, &flips);
    assert_eq!(report["report"]["verdict"], "fail", "{report}");
    assert!(report.to_string().contains("GPU 1 (0000:1b:00.0): row 64, column 42"), "{report}");
}

fn of_gpus(lab: &Lab, library: &Path, answers: &Path) -> Value {
    let mut command = lab.lindos(["burnin", "--seconds", "1", "--only", "gpu", "--json"]);
    let output = command
        .env("FAKE_CUDA", answers)
        .env("LINDOS_CUDA", library)
        .env("LINDOS_CUBLAS", library)
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}
