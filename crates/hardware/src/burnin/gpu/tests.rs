//! The real loading path, over a library that is compiled here: `testdata/fake_cuda.rs`.

use super::*;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// The library finds its answers through the environment of the process: one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
static COMPILED: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
const NAMES: [&str; 7] =
    ["gpu.count", "gpu.size", "gpu.exact", "gpu.repeat", "gpu.peers", "gpu.speed", "gpu.memory"];

fn compiled() -> &'static Path {
    let (_, library) = COMPILED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libfake-cuda.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fake_cuda.rs");
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(rustc)
            .args(["--edition", "2024", "-O", "--crate-type", "cdylib", "-o"])
            .arg(&library)
            .arg(source)
            .output()
            .expect("rustc runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (folder, library)
    });
    library
}

/// A burn-in of GPUs that are as `lines` say.
fn tested(lines: &[&str], expected: &Expected) -> Vec<TestResult> {
    with(lines, Some(compiled().to_path_buf()), expected)
}

fn with(lines: &[&str], blas: Option<PathBuf>, expected: &Expected) -> Vec<TestResult> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let answers = folder.path().join("answers");
    let text = lines.iter().fold(String::new(), |mut text, line| {
        writeln!(text, "{line}").unwrap();
        text
    });
    std::fs::write(&answers, text).unwrap();
    // SAFETY: whoever reads or writes this variable holds the lock above.
    unsafe { std::env::set_var("FAKE_CUDA", &answers) };
    let mut source = GpuSource::new(Some(compiled().to_path_buf()), blas);
    source.size = Some(Size { side: 48, batch: 2 });
    run(Limit::of(Duration::from_millis(1)), &source, expected)
}

fn of<'a>(results: &'a [TestResult], name: &str) -> &'a TestResult {
    results.iter().find(|result| result.name == name).unwrap()
}

fn failed(results: &[TestResult]) -> Vec<&str> {
    let failed = results.iter().filter(|result| result.verdict == Verdict::Fail);
    failed.map(|result| result.name.as_str()).collect()
}

#[test]
fn gpus_that_are_well_pass_everything() {
    let results = tested(&["count 3"], &Expected::default());
    let names: Vec<&str> = results.iter().map(|result| result.name.as_str()).collect();
    assert_eq!(names, NAMES);
    assert_eq!(failed(&results), Vec::<&str>::new(), "{results:#?}");
    for name in ["gpu.exact", "gpu.repeat", "gpu.peers", "gpu.memory"] {
        assert_eq!(of(&results, name).verdict, Verdict::Pass, "{results:#?}");
    }
    assert_eq!(of(&results, "gpu.count").figure, Some(3.0));
    assert!(of(&results, "gpu.memory").detail.starts_with("3 MiB of 192 MiB"), "{results:#?}");
}

#[test]
fn a_bit_flipped_in_a_product_of_integers_is_found_by_row_and_column() {
    // The first product of all is one of integers; so is the last, after one warm-up and a batch.
    for number in ["1", "5"] {
        let results =
            tested(&["count 2", &format!("1.flip_product {number}")], &Expected::default());
        assert_eq!(failed(&results), ["gpu.exact"], "{number}: {results:#?}");
        let detail = &of(&results, "gpu.exact").detail;
        assert!(detail.contains("GPU 1 (0000:1b:00.0): row 24, column 16: "), "{detail}");
    }
}

#[test]
fn a_bit_flipped_in_a_repeat_is_found() {
    let results = tested(&["count 2", "0.flip_product 4"], &Expected::default());
    assert_eq!(failed(&results), ["gpu.repeat"], "{results:#?}");
    let detail = &of(&results, "gpu.repeat").detail;
    assert!(detail.contains("GPU 0 (0000:1a:00.0): cell 792: "), "{detail}");
}

#[test]
fn a_gpu_that_differs_from_its_peers_is_named() {
    // The second product is the first with full mantissas: all later ones differ from it.
    let results = tested(&["count 3", "2.flip_product 2"], &Expected::default());
    assert_eq!(failed(&results), ["gpu.repeat", "gpu.peers"], "{results:#?}");
    assert_eq!(of(&results, "gpu.peers").figure, Some(1.0));
    assert!(of(&results, "gpu.peers").detail.contains("GPU 2 ("), "{results:#?}");
    // Of another kind, it has no peers.
    let other =
        tested(&["count 2", "1.name NVIDIA Other", "1.flip_product 2"], &Expected::default());
    assert_eq!(of(&other, "gpu.peers").verdict, Verdict::Skipped);
}

#[test]
fn a_product_that_was_never_computed_is_not_taken_for_the_last_one() {
    let lines = ["count 1", "0.idle_product 1"];
    assert_eq!(failed(&tested(&lines, &Expected::default())), ["gpu.exact"]);
}

#[test]
fn a_bit_flipped_in_the_memory_is_found() {
    // Six copies bring the operands: twice those of integers, once the others.
    let results = tested(&["count 2", "1.flip_memory 7"], &Expected::default());
    assert_eq!(failed(&results), ["gpu.memory"], "{results:#?}");
    let detail = &of(&results, "gpu.memory").detail;
    assert!(detail.contains("GPU 1 (0000:1b:00.0): first at byte 524288"), "{detail}");
}

#[test]
fn a_platform_is_held_against_count_size_and_speed() {
    let expected = Expected::of_platform("hgx-h100").unwrap();
    let results = tested(&["count 2"], &expected);
    assert_eq!(failed(&results), ["gpu.count", "gpu.size", "gpu.speed"], "{results:#?}");
    let small = Expected { gpus: Some(2), gpu_tflops: Some(1e-15), ..Expected::default() };
    assert_eq!(failed(&tested(&["count 2"], &small)), Vec::<&str>::new());
}

#[test]
fn what_a_gpu_refuses_is_a_failure_with_its_words() {
    let results = tested(&["count 2", "1.refuse_product 13"], &Expected::default());
    assert_eq!(failed(&results), ["gpu.exact"], "{results:#?}");
    assert!(of(&results, "gpu.exact").detail.contains("GPU 1 (0000:1b:00.0): cublasGemmEx failed"));
    let results = tested(&["count 2", "0.open 802"], &Expected::default());
    assert_eq!(failed(&results), ["gpu.count"], "{results:#?}");
    assert!(of(&results, "gpu.count").detail.contains("GPU 0: cuDeviceGet failed: system not yet"));
    let results = tested(&["init 802"], &Expected::default());
    assert_eq!(failed(&results), ["gpu.count"], "{results:#?}");
    let results = tested(&["count 1", "0.memory 4096"], &Expected::default());
    assert!(of(&results, "gpu.exact").detail.contains("out of memory"), "{results:#?}");
}

#[test]
fn what_is_not_there_is_skipped_unless_it_should_be() {
    let wanted = Expected { gpus: Some(8), ..Expected::default() };
    for lines in [["init 100"], ["count 0"]] {
        let results = tested(&lines, &Expected::default());
        assert_eq!(results[0].verdict, Verdict::Skipped, "{results:#?}");
        assert_eq!(failed(&tested(&lines, &wanted)), ["gpu.count"]);
    }
    let nowhere = PathBuf::from("/nonexistent/libcublas.so");
    let results = with(&["count 1"], Some(nowhere.clone()), &Expected::default());
    assert_eq!(of(&results, "gpu.exact").verdict, Verdict::Skipped, "{results:#?}");
    assert!(of(&results, "gpu.exact").detail.contains("/nonexistent/libcublas.so"));
    assert_eq!(of(&results, "gpu.memory").verdict, Verdict::Pass);
    let source = GpuSource::new(Some(nowhere), None);
    let results = run(Limit::of(Duration::ZERO), &source, &Expected::default());
    assert_eq!(results.len(), 1);
    assert!(results[0].detail.starts_with("there is no CUDA driver: "), "{results:#?}");
}

#[test]
fn a_gpu_without_bf16_is_told_and_its_memory_tested() {
    let results = tested(&["count 1", "0.capability 7"], &Expected::default());
    assert!(of(&results, "gpu.exact").detail.ends_with("it does not compute in BF16"));
    assert_eq!(of(&results, "gpu.memory").verdict, Verdict::Pass);
}
