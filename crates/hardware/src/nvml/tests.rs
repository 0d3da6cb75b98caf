//! The real loading path, over a library that is compiled here: `testdata/fake_nvml.rs`.

use super::library::LibraryError;
use super::shared::NvmlSource;
use super::snapshot::{Fabric, Remapped};
use super::{GpuWork, Library, UseWatch, checks, work_of};
use crate::health::{Edge, EdgeKind, Monitor, State};
use crate::system::{Expectations, Root};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The library finds its answers through the environment of the process: one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
static COMPILED: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();

fn compiled() -> &'static Path {
    let (_, library) = COMPILED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libfake-nvml.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fake_nvml.rs");
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(rustc)
            .args(["--edition", "2024", "--crate-type", "cdylib", "-o"])
            .arg(&library)
            .arg(source)
            .output()
            .expect("rustc runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (folder, library)
    });
    library
}

/// What the library answers.
struct Fake {
    _alone: MutexGuard<'static, ()>,
    folder: tempfile::TempDir,
    answers: BTreeMap<String, String>,
}

impl Fake {
    /// Healthy GPUs of a node with switches between them.
    fn with_gpus(count: u32) -> Fake {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        // SAFETY: whoever reads or writes the environment here holds the lock above.
        unsafe { std::env::set_var("FAKE_NVML", folder.path().join("answers")) };
        let mut fake = Fake { _alone: alone, folder, answers: BTreeMap::new() };
        fake.set("count", count);
        fake.set("driver", "550.54.15");
        for gpu in 0..count {
            for (key, value) in [
                ("pci", format!("00000000:{:02X}:00.0", 0x10 + gpu)),
                ("uuid", format!("GPU-{gpu}")),
                ("fabric_state", "3".to_string()),
            ] {
                fake.set(&format!("{gpu}.{key}"), value);
            }
            for (key, value) in [
                ("ecc_1_0", 0),
                ("remap_pending", 0),
                ("remap_failed", 0),
                ("throttle", 4),
                ("temperature_0", 61),
                ("threshold_1", 87),
                ("power", 412_000),
                ("power_limit", 700_000),
                ("power_default", 700_000),
                ("clock_1", 1980),
                ("clock_max_1", 1980),
                ("busy", 97),
                ("pcie_width", 16),
                ("pcie_width_max", 16),
                ("pcie_generation", 5),
                ("pcie_generation_max", 5),
                ("link_0", 1),
                ("link_0_errors_0", 7),
                ("link_0_errors_1", 0),
                ("link_1", 1),
            ] {
                fake.set(&format!("{gpu}.{key}"), value);
            }
        }
        fake
    }

    fn set(&mut self, key: &str, value: impl std::fmt::Display) {
        let value = format!("{value}");
        self.answers.insert(key.to_string(), value);
        let mut text = String::new();
        for (key, value) in &self.answers {
            writeln!(text, "{key} {value}").unwrap();
        }
        std::fs::write(self.folder.path().join("answers"), text).unwrap();
    }

    fn monitor(&self, expected: &Expectations) -> Watched {
        let source = NvmlSource::at(compiled().to_path_buf());
        let checks = checks(source, &Root::at(self.folder.path()), expected);
        Watched { monitor: Monitor::new(checks), now: Duration::ZERO }
    }
}

struct Watched {
    monitor: Monitor,
    now: Duration,
}

impl Watched {
    /// Lets every check look once more; what changed, by class and device.
    fn look(&mut self) -> Vec<String> {
        let mut edges: Vec<Edge> = Vec::new();
        self.now += Duration::from_secs(40);
        let began = Instant::now();
        let round_ends = self.now + Duration::from_secs(20);
        // Checks run beside each other: each is asked until it has answered.
        while self.monitor.poll(self.now, &mut edges) < round_ends {
            assert!(began.elapsed() < Duration::from_secs(30), "a check does not answer");
            self.now += Duration::from_millis(10);
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut told: Vec<String> = edges
            .iter()
            .map(|edge| {
                let device =
                    edge.finding.device.as_ref().map_or(String::new(), |d| format!(" {d}"));
                let sign = if edge.kind == EdgeKind::Cleared { "-" } else { "+" };
                format!("{sign}{}{device}", edge.finding.class)
            })
            .collect();
        told.sort();
        told
    }

    fn state(&self, check: &str) -> State {
        self.monitor.standings().find(|standing| standing.about == check).unwrap().state.clone()
    }
}

#[test]
fn everything_is_read_through_the_real_entry_points() {
    let mut fake = Fake::with_gpus(2);
    fake.set("1.remap_pending", 1);
    fake.set("1.fabric_status", 999);
    fake.set("1.pids", "17 4711");
    fake.set("1.ecc_1_0", 3);
    let library = Library::open(compiled().as_os_str()).unwrap();
    let snapshot = library.read().unwrap();
    assert_eq!(snapshot.driver, "550.54.15");
    let [first, second] = snapshot.gpus.as_slice() else { panic!("{snapshot:?}") };
    assert_eq!(first.pci.unwrap().to_string(), "0000:10:00.0");
    assert_eq!((first.uuid.as_str(), first.celsius), ("GPU-0", Some(61)));
    assert_eq!((first.milliwatts, first.limit_milliwatts), (Some(412_000), Some(700_000)));
    assert_eq!((first.sm_megahertz, first.busy_percent), (Some(1980), Some(97)));
    assert_eq!((first.pcie_width, first.pcie_generation), (Some(16), Some(5)));
    assert_eq!((first.fabric, first.links.len()), (Some(Fabric::Done), 2));
    assert_eq!((first.links[0].replays, first.links[1].replays), (Some(7), None));
    assert_eq!(second.remapped, Some(Remapped { is_pending: true, has_failed: false }));
    assert_eq!(second.fabric, Some(Fabric::Failed(999)));
    assert_eq!(
        (second.pids.as_slice(), second.uncorrected_errors),
        ([17, 4711].as_slice(), Some(3))
    );
}

#[test]
fn what_an_old_driver_lacks_is_not_known() {
    let mut fake = Fake::with_gpus(1);
    for key in ["0.remap_pending", "0.fabric_state", "0.link_0", "0.throttle", "0.pci"] {
        fake.answers.remove(key);
    }
    fake.set("driver", "418.67");
    let snapshot = Library::open(compiled().as_os_str()).unwrap().read().unwrap();
    let gpu = &snapshot.gpus[0];
    assert_eq!((gpu.remapped, gpu.fabric, gpu.throttle, gpu.pci), (None, None, None, None));
    assert!(gpu.links.is_empty());
    assert_eq!(fake.monitor(&Expectations::default()).look(), Vec::<String>::new());
}

#[test]
fn healthy_gpus_have_no_finding() {
    let fake = Fake::with_gpus(8);
    let mut watched = fake.monitor(&Expectations::default());
    for _ in 0..3 {
        assert_eq!(watched.look(), Vec::<String>::new());
    }
    assert_eq!(watched.monitor.standings().filter(|s| s.state == State::Ok).count(), 11);
}

#[test]
fn each_fault_is_found_where_it_is_and_clears_when_it_is_over() {
    for (key, ill, class) in [
        ("ecc_1_0", 1, "gpu.ecc_uncorrected"),
        ("remap_pending", 1, "gpu.remap_pending"),
        ("remap_failed", 1, "gpu.remap_failed"),
        ("throttle", 0x40, "gpu.throttled_thermal"),
        ("throttle", 0x88, "gpu.throttled_power"),
        ("throttle", 0x08, "gpu.throttled_hardware"),
        ("temperature_0", 84, "gpu.hot"),
        ("power_limit", 350_000, "gpu.power_limited"),
        ("pcie_width", 8, "gpu.pcie_narrow"),
        ("pcie_generation", 1, "gpu.pcie_slow"),
        ("link_1", 0, "gpu.nvlink_down"),
        ("fabric_status", 5, "gpu.fabric_failed"),
    ] {
        let mut fake = Fake::with_gpus(4);
        let mut watched = fake.monitor(&Expectations::default());
        watched.look();
        let well = fake.answers.get(&format!("2.{key}")).cloned().unwrap_or("0".into());
        fake.set(&format!("2.{key}"), ill);
        let found: Vec<String> = (0..2).flat_map(|_| watched.look()).collect();
        assert_eq!(found, [format!("+{class} 0000:12:00.0")], "{key} {ill}");
        fake.set(&format!("2.{key}"), well);
        let cleared: Vec<String> = (0..2).flat_map(|_| watched.look()).collect();
        let is_known_up = class == "gpu.nvlink_down";
        assert!(is_known_up || cleared == [format!("-{class} 0000:12:00.0")], "{cleared:?}");
    }
}

#[test]
fn one_hot_look_is_no_finding() {
    let mut fake = Fake::with_gpus(2);
    let mut watched = fake.monitor(&Expectations::default());
    watched.look();
    fake.set("0.temperature_0", 95);
    assert_eq!(watched.look(), Vec::<String>::new());
    fake.set("0.temperature_0", 60);
    assert_eq!(watched.look(), Vec::<String>::new());
}

#[test]
fn links_that_err_more_and_clocks_without_a_reason_are_found() {
    let mut fake = Fake::with_gpus(2);
    let mut watched = fake.monitor(&Expectations::default());
    watched.look();
    fake.set("1.link_0_errors_0", 106);
    assert_eq!(watched.look(), Vec::<String>::new());
    fake.set("1.link_0_errors_1", 1);
    fake.set("0.clock_1", 345);
    fake.set("0.throttle", 0);
    let found: Vec<String> = (0..3).flat_map(|_| watched.look()).collect();
    let errors = "gpu.nvlink_errors 0000:11:00.0";
    let wanted =
        [format!("+{errors}"), format!("-{errors}"), "+gpu.slow_clock 0000:10:00.0".into()];
    assert_eq!(found, wanted);
}

#[test]
fn one_gpu_that_is_lost_is_a_fault_and_all_of_them_are_a_blind_monitor() {
    let mut fake = Fake::with_gpus(4);
    let mut watched = fake.monitor(&Expectations::default());
    watched.look();
    fake.set("3.handle", 15);
    assert_eq!(watched.look(), ["+gpu.lost gpu3"]);
    fake.set("count", 0);
    fake.set("3.handle", 0);
    let blind = watched.look();
    assert!(blind.contains(&"+monitor.gpu_presence_unreadable".to_string()), "{blind:?}");
    assert!(blind.iter().all(|edge| edge.starts_with("+monitor.")), "{blind:?}");
    assert_eq!(watched.state("gpu.memory"), State::Unknown);
}

#[test]
fn whether_a_gpu_spins_is_asked_without_waiting_for_the_answer() {
    let mut fake = Fake::with_gpus(3);
    for (key, value) in [
        ("0.busy", "100"),
        ("0.memory_busy", "0"),
        ("0.power", "180000"),
        ("0.pcie_throughput_0", "12"),
        ("0.pcie_throughput_1", "900"),
        ("0.pids", "17 18"),
        ("1.memory_busy", "38"),
        ("1.pids", "19"),
        ("2.handle", "15"),
    ] {
        fake.set(key, value);
    }
    let watch = UseWatch::start(NvmlSource::at(compiled().to_path_buf())).unwrap();
    let began = Instant::now();
    let uses = loop {
        if let Some(uses) = watch.look() {
            break uses;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "nobody answers");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(uses.len(), 2, "one is lost");
    assert_eq!((uses[0].bus_kib_per_s, uses[1].bus_kib_per_s), (Some(900), None));
    assert_eq!(work_of(&uses, |pid| pid == 18), Some(GpuWork::Spins));
    assert_eq!(work_of(&uses, |pid| pid == 19), Some(GpuWork::Works));
    let nobody = UseWatch::start(NvmlSource::at(fake.folder.path().join("none.so"))).unwrap();
    assert_eq!(nobody.look(), None);
}

#[test]
fn fewer_gpus_than_expected_are_found() {
    let fake = Fake::with_gpus(7);
    let devices = BTreeMap::from([("gpu".to_string(), 8)]);
    let mut watched = fake.monitor(&Expectations { devices, ..Expectations::default() });
    assert_eq!(watched.look(), ["+gpu.missing"]);
}

#[test]
fn a_driver_that_is_reloaded_is_asked_again() {
    let mut fake = Fake::with_gpus(2);
    let mut watched = fake.monitor(&Expectations::default());
    watched.look();
    fake.answers.remove("count");
    fake.set("init", 9);
    assert!(watched.look().contains(&"+monitor.gpu_presence_unreadable".to_string()));
    fake.set("init", 0);
    fake.set("count", 2);
    assert!(watched.look().contains(&"-monitor.gpu_presence_unreadable".to_string()));
    assert_eq!(watched.state("gpu.presence"), State::Ok);
}

#[test]
fn processes_that_hold_a_gpu_without_right_are_found() {
    let mut fake = Fake::with_gpus(1);
    let root = fake.folder.path().to_path_buf();
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("proc/17/cgroup", "0::/lindos/4-1\n");
    write("proc/18/cgroup", "0::/user.slice\n");
    std::fs::create_dir_all(root.join("proc/self/ns")).unwrap();
    std::os::unix::fs::symlink("pid:[4026531836]", root.join("proc/self/ns/pid")).unwrap();
    fake.set("0.pids", "17");
    let mut watched = fake.monitor(&Expectations { exclusive: true, ..Expectations::default() });
    assert_eq!((0..3).flat_map(|_| watched.look()).collect::<Vec<_>>(), Vec::<String>::new());
    fake.set("0.pids", "17 18");
    let found: Vec<String> = (0..3).flat_map(|_| watched.look()).collect();
    assert_eq!(found, ["+gpu.stranger_process 0000:10:00.0"]);
    fake.set("0.pids", "17 99");
    let found: Vec<String> = (0..3).flat_map(|_| watched.look()).collect();
    assert!(found.contains(&"+gpu.ghost_process 0000:10:00.0".to_string()), "{found:?}");
}

#[test]
fn a_library_that_says_no_or_is_none_is_an_error_with_words() {
    let mut fake = Fake::with_gpus(1);
    fake.set("init", 9);
    let error = Library::open(compiled().as_os_str()).unwrap_err();
    assert_eq!(error.to_string(), "nvmlInit failed: Driver Not Loaded (NVML error 9)");
    let error = Library::open("/nonexistent/libnvidia-ml.so".as_ref()).unwrap_err();
    assert!(matches!(error, LibraryError::Load(_)));
}
