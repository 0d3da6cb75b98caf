//! What is wrong with the GPUs of a snapshot.

use super::shared::{Missing, NvmlSource, Shared};
use super::snapshot::{Fabric, Gpu, Snapshot};
use crate::health::check::{means, system_finding};
use crate::health::{About, Check, Reading};
use crate::system::{Expectations, Root};
use lindos_model::{Action, Device, Finding, FindingSource, Severity, Suspect};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(30);
/// Degrees below the temperature at which a GPU slows down.
const MARGIN_CELSIUS: u32 = 3;
/// Where a GPU does not tell when it slows down.
const HOT_CELSIUS: u32 = 90;
/// A limit below this share of the usual one was set by somebody, or by a fault of the supply.
const LIMIT_PERCENT: u32 = 70;
const BUSY_PERCENT: u32 = 50;
/// A busy GPU with a clock below this share of its highest and no reason given is ill.
const CLOCK_PERCENT: u32 = 50;
/// Packets sent again over one link between two looks.
const REPLAYS: u64 = 100;
/// The inode of the first process namespace of a kernel.
const FIRST_NAMESPACE: &str = "pid:[4026531836]";

const HW_SLOWDOWN: u64 = 0x08;
const SW_THERMAL: u64 = 0x20;
const HW_THERMAL: u64 = 0x40;
const HW_POWER_BRAKE: u64 = 0x80;

const RESET: means::Means = (Severity::GpuFatal, Action::ResetGpu, Suspect::Hardware);
const RESET_SOON: means::Means = (Severity::Warning, Action::ResetGpu, Suspect::Hardware);
const REPLACE: means::Means = (Severity::GpuFatal, Action::Replace, Suspect::Hardware);
const LOST: means::Means = (Severity::NodeFatal, Action::Reboot, Suspect::Hardware);
const FABRIC: means::Means = (Severity::GpuFatal, Action::ResetFabric, Suspect::Unclear);

/// What a check knows beside the snapshot.
#[derive(Debug)]
struct Context {
    before: Option<Arc<Snapshot>>,
    /// The most GPUs that there have been, and should be.
    most: u64,
    root: Root,
    is_exclusive: bool,
}

type Judge = fn(&Context, &Snapshot) -> (String, Vec<Finding>);

#[derive(Debug)]
struct GpuCheck {
    shared: Shared,
    about: About,
    judge: Judge,
    context: Context,
}

impl Check for GpuCheck {
    fn about(&self) -> About {
        self.about
    }

    fn read(&mut self, now: Duration) -> Reading {
        let snapshot = match self.shared.snapshot(now) {
            Ok(snapshot) => snapshot,
            Err(Missing::Absent(why)) => return Reading::Absent(why),
            Err(Missing::Unknown(why)) => return Reading::Unknown(why),
        };
        let known = self.context.before.as_ref().map_or(0, |before| before.gpus.len());
        if snapshot.gpus.is_empty() && snapshot.lost.is_empty() {
            if known > 1 {
                return Reading::Unknown(format!("all {known} GPUs are gone at once"));
            }
            if self.context.most == 0 {
                return Reading::Absent("the driver has no GPU".to_string());
            }
        }
        let (words, open) = (self.judge)(&self.context, &snapshot);
        self.context.most = self.context.most.max(snapshot.gpus.len() as u64);
        self.context.before = Some(snapshot);
        Reading::of(words, open)
    }
}

fn found(
    class: &'static str,
    means: means::Means,
    gpu: &Gpu,
    detail: impl fmt::Display,
) -> Finding {
    let device = gpu.pci.map_or(Device::Gpu(gpu.index as u16), Device::Pci);
    let detail = format!("gpu{}: {detail}", gpu.index);
    Finding { source: FindingSource::Nvml, ..system_finding(class, means, Some(device), detail) }
}

/// What one GPU has, for each of which it does.
fn each(snapshot: &Snapshot, judge: impl Fn(&Gpu) -> Option<Finding>) -> Vec<Finding> {
    snapshot.gpus.iter().filter_map(judge).collect()
}

fn presence(context: &Context, snapshot: &Snapshot) -> (String, Vec<Finding>) {
    let mut open = Vec::new();
    for (index, words) in &snapshot.lost {
        let gpu = Gpu { index: *index, ..Gpu::default() };
        open.push(found("gpu.lost", LOST, &gpu, format!("the driver gives no access: {words}")));
    }
    let there = snapshot.gpus.len() as u64;
    let all = there + snapshot.lost.len() as u64;
    if let Some(before) = &context.before {
        for gpu in &before.gpus {
            let is_there = snapshot.gpus.iter().any(|now| now.uuid == gpu.uuid);
            if !is_there && snapshot.lost.iter().all(|(index, _)| *index != gpu.index) {
                open.push(found("gpu.missing", LOST, gpu, format!("{} is gone", gpu.uuid)));
            }
        }
    }
    if all < context.most && open.is_empty() {
        let detail = format!("the driver has {all} of {} GPUs", context.most);
        let finding = system_finding("gpu.missing", LOST, None, detail);
        open.push(Finding { source: FindingSource::Nvml, ..finding });
    }
    (format!("{there} GPUs, driver {}", snapshot.driver), open)
}

fn memory(_: &Context, snapshot: &Snapshot) -> (String, Vec<Finding>) {
    let mut open = each(snapshot, |gpu| {
        let errors = gpu.uncorrected_errors.filter(|errors| *errors > 0)?;
        let detail = format!("{errors} uncorrectable memory errors since the driver was loaded");
        Some(found("gpu.ecc_uncorrected", RESET, gpu, detail))
    });
    open.extend(each(snapshot, |gpu| {
        let remapped = gpu.remapped?;
        if remapped.has_failed {
            let detail = "a broken row could not be replaced: no spare is left".to_string();
            return Some(found("gpu.remap_failed", REPLACE, gpu, detail));
        }
        let detail = "a broken row waits for a reset to be replaced".to_string();
        remapped.is_pending.then(|| found("gpu.remap_pending", RESET_SOON, gpu, detail))
    }));
    let told = snapshot.gpus.iter().filter(|gpu| gpu.uncorrected_errors.is_some()).count();
    (format!("{told} GPUs with ECC"), open)
}

fn throttle(_: &Context, snapshot: &Snapshot) -> (String, Vec<Finding>) {
    let open = each(snapshot, |gpu| {
        let reasons = gpu.throttle?;
        let has = |bit: u64| reasons & bit != 0;
        if has(HW_THERMAL) || has(SW_THERMAL) {
            let detail = "slowed down by its temperature".to_string();
            Some(found("gpu.throttled_thermal", means::INSPECT, gpu, detail))
        } else if has(HW_POWER_BRAKE) {
            let detail = "slowed down by the power supply of the node".to_string();
            Some(found("gpu.throttled_power", means::INSPECT, gpu, detail))
        } else if has(HW_SLOWDOWN) {
            let detail = "slowed down by the hardware".to_string();
            Some(found("gpu.throttled_hardware", means::INSPECT, gpu, detail))
        } else {
            None
        }
    });
    let slowed = open.len();
    (format!("{slowed} of {} GPUs slowed down", snapshot.gpus.len()), open)
}

fn temperature(_: &Context, snapshot: &Snapshot) -> (String, Vec<Finding>) {
    let open = each(snapshot, |gpu| {
        let limit = gpu.slowdown_celsius.filter(|limit| *limit > MARGIN_CELSIUS);
        let hot = limit.map_or(HOT_CELSIUS, |limit| limit - MARGIN_CELSIUS);
        let celsius = gpu.celsius.filter(|celsius| *celsius >= hot)?;
        Some(found("gpu.hot", means::INSPECT, gpu, format!("{celsius} °C, and {hot} is too hot")))
    });
    let hottest = snapshot.gpus.iter().filter_map(|gpu| gpu.celsius).max();
    (hottest.map_or("not told".to_string(), |celsius| format!("up to {celsius} °C")), open)
}

fn power(_: &Context, snapshot: &Snapshot) -> (String, Vec<Finding>) {
    let open = each(snapshot, |gpu| {
        let (limit, usual) = gpu.limit_milliwatts.zip(gpu.default_limit_milliwatts)?;
        let is_low = u64::from(limit) * 100 < u64::from(usual) * u64::from(LIMIT_PERCENT);
        let (limit, usual) = (limit / 1000, usual / 1000);
        let detail = format!("limited to {limit} W, and {usual} W are usual");
        is_low.then(|| found("gpu.power_limited", means::SET_UP, gpu, detail))
    });
    let watts: u32 = snapshot.gpus.iter().filter_map(|gpu| gpu.milliwatts).sum::<u32>() / 1000;
    (format!("{watts} W together"), open)
}

fn clocks(_: &Context, snapshot: &Snapshot) -> (String, Vec<Finding>) {
    let open = each(snapshot, |gpu| {
        let (clock, highest) = gpu.sm_megahertz.zip(gpu.sm_megahertz_max)?;
        let is_busy = gpu.busy_percent? >= BUSY_PERCENT;
        // Idle and user settings are no reasons of the hardware; any other explains itself.
        let is_unexplained = gpu.throttle.is_none_or(|reasons| reasons & !0x3 == 0);
        let is_low = clock * 100 < highest * CLOCK_PERCENT;
        let detail = format!("busy at {clock} of {highest} MHz, and nothing says why");
        (is_busy && is_unexplained && is_low)
            .then(|| found("gpu.slow_clock", means::DIAGNOSE, gpu, detail))
    });
    let highest = snapshot.gpus.iter().filter_map(|gpu| gpu.sm_megahertz).max();
    (highest.map_or("not told".to_string(), |clock| format!("up to {clock} MHz")), open)
}

fn pcie(_: &Context, snapshot: &Snapshot) -> (String, Vec<Finding>) {
    let mut open = each(snapshot, |gpu| {
        let (width, most) = gpu.pcie_width.zip(gpu.pcie_width_max)?;
        let detail = format!("{width} of {most} PCIe lanes");
        (width < most).then(|| found("gpu.pcie_narrow", means::INSPECT, gpu, detail))
    });
    open.extend(each(snapshot, |gpu| {
        let (generation, most) = gpu.pcie_generation.zip(gpu.pcie_generation_max)?;
        // An idle GPU slows its link down to save power.
        let is_busy = gpu.busy_percent? >= BUSY_PERCENT;
        let detail = format!("PCIe generation {generation} of {most} while busy");
        (is_busy && generation < most).then(|| found("gpu.pcie_slow", means::INSPECT, gpu, detail))
    }));
    let width = snapshot.gpus.iter().filter_map(|gpu| gpu.pcie_width).min();
    (width.map_or("not told".to_string(), |width| format!("at least {width} lanes")), open)
}

fn nvlink(context: &Context, snapshot: &Snapshot) -> (String, Vec<Finding>) {
    let mut open = Vec::new();
    for gpu in &snapshot.gpus {
        let before = context
            .before
            .as_ref()
            .and_then(|before| before.gpus.iter().find(|known| known.uuid == gpu.uuid));
        let down: Vec<u32> = gpu
            .links
            .iter()
            .filter(|link| {
                !link.is_up
                    && (is_up_elsewhere(snapshot, link.number) || was_up(before, link.number))
            })
            .map(|link| link.number)
            .collect();
        if !down.is_empty() {
            let detail = format!("NVLinks that are down: {}", list(&down));
            open.push(found("gpu.nvlink_down", RESET, gpu, detail));
        }
        let erring: Vec<u32> =
            gpu.links.iter().filter(|link| errs(before, link)).map(|link| link.number).collect();
        if !erring.is_empty() {
            let detail = format!("NVLinks with errors since the last look: {}", list(&erring));
            open.push(found("gpu.nvlink_errors", means::DIAGNOSE, gpu, detail));
        }
    }
    let links = || snapshot.gpus.iter().flat_map(|gpu| &gpu.links);
    let up = links().filter(|link| link.is_up).count();
    (format!("{up} of {} links up", links().count()), open)
}

/// Most other GPUs have it up: this one is wired likewise.
fn is_up_elsewhere(snapshot: &Snapshot, number: u32) -> bool {
    let up = snapshot
        .gpus
        .iter()
        .filter(|gpu| gpu.links.iter().any(|link| link.number == number && link.is_up));
    up.count() * 2 > snapshot.gpus.len()
}

fn was_up(before: Option<&Gpu>, number: u32) -> bool {
    before.is_some_and(|gpu| gpu.links.iter().any(|link| link.number == number && link.is_up))
}

fn errs(before: Option<&Gpu>, now: &super::Link) -> bool {
    let known = before.and_then(|gpu| gpu.links.iter().find(|link| link.number == now.number));
    let Some(known) = known else { return false };
    let rise = |before: Option<u64>, now: Option<u64>| {
        now.zip(before).map_or(0, |(now, before)| now.saturating_sub(before))
    };
    rise(known.recoveries, now.recoveries) > 0 || rise(known.replays, now.replays) >= REPLAYS
}

fn list(numbers: &[u32]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<String>>().join(", ")
}

fn fabric(_: &Context, snapshot: &Snapshot) -> (String, Vec<Finding>) {
    let open = each(snapshot, |gpu| {
        let Fabric::Failed(status) = gpu.fabric? else { return None };
        let detail = format!("the fabric manager failed with it (NVML error {status})");
        Some(found("gpu.fabric_failed", FABRIC, gpu, detail))
    });
    let told = snapshot.gpus.iter().filter(|gpu| gpu.fabric.is_some()).count();
    (format!("{told} GPUs on a fabric"), open)
}

fn fabric_start(_: &Context, snapshot: &Snapshot) -> (String, Vec<Finding>) {
    let open = each(snapshot, |gpu| {
        let is_waiting = matches!(gpu.fabric?, Fabric::Waits | Fabric::Works);
        let detail = "the fabric manager has not finished with it".to_string();
        is_waiting.then(|| found("gpu.fabric_waits", means::SET_UP, gpu, detail))
    });
    let done = snapshot.gpus.iter().filter(|gpu| gpu.fabric == Some(Fabric::Done)).count();
    (format!("{done} GPUs done"), open)
}

fn processes(context: &Context, snapshot: &Snapshot) -> (String, Vec<Finding>) {
    // Inside a container the driver's numbers are those of another namespace: nothing can be said.
    let namespace = std::fs::read_link(context.root.path("proc/self/ns/pid"));
    let are_numbers_ours = namespace.is_ok_and(|link| link.as_os_str() == FIRST_NAMESPACE);
    let mut open = Vec::new();
    for gpu in snapshot.gpus.iter().filter(|_| are_numbers_ours) {
        for pid in &gpu.pids {
            let cgroup = context.root.text(format!("proc/{pid}/cgroup"));
            if let Err(error) = &cgroup
                && error.kind() == std::io::ErrorKind::NotFound
            {
                let detail = format!("process {pid} is gone and still holds the GPU");
                open.push(found("gpu.ghost_process", RESET_SOON, gpu, detail));
            } else if context.is_exclusive && cgroup.is_ok_and(|text| !text.contains("lindos")) {
                let detail = format!("process {pid} was not started by Lindos");
                open.push(found("gpu.stranger_process", means::CROWDED, gpu, detail));
            }
        }
    }
    let count: usize = snapshot.gpus.iter().map(|gpu| gpu.pids.len()).sum();
    let words = if are_numbers_ours { "" } else { ", of another namespace" };
    (format!("{count} processes{words}"), open)
}

/// All checks of the GPUs.
pub fn checks(source: NvmlSource, root: &Root, expected: &Expectations) -> Vec<Box<dyn Check>> {
    const COST: &str = "shares one snapshot: 30 calls a GPU every 30 s";
    let table: [(&str, &str, &str, u32, Judge); 11] = [
        (
            "gpu.presence",
            "a GPU that is gone, or that the driver gives no access to",
            "any; gpu of the expectations",
            1,
            presence,
        ),
        (
            "gpu.memory",
            "uncorrectable memory errors; rows that wait to be replaced, or could not be",
            "1 error; any row",
            1,
            memory,
        ),
        (
            "gpu.throttle",
            "clocks held down by heat, by the power supply, or by the hardware; not by its own \
             power limit",
            "two looks in a row",
            2,
            throttle,
        ),
        (
            "gpu.temperature",
            "a GPU about to slow down for heat",
            "3 °C below its slowdown temperature; 90 °C where it has none",
            2,
            temperature,
        ),
        (
            "gpu.power",
            "a power limit far below the usual one",
            "70% of the default limit",
            2,
            power,
        ),
        (
            "gpu.clocks",
            "a busy GPU with a low clock and no reason given",
            "busy 50%, below 50% of the highest clock",
            3,
            clocks,
        ),
        (
            "gpu.pcie",
            "fewer lanes than it could have, or a slower generation while it is busy",
            "any lane; busy 50%",
            2,
            pcie,
        ),
        (
            "gpu.nvlink",
            "a link that is down while it was up, or is up on most other GPUs; links that err",
            "any recovery; 100 packets sent again in 30 s",
            1,
            nvlink,
        ),
        ("gpu.fabric", "a GPU that the fabric manager failed with", "any", 1, fabric),
        (
            "gpu.fabric_start",
            "a GPU that the fabric manager does not finish with",
            "ten looks in a row: 5 min",
            10,
            fabric_start,
        ),
        (
            "gpu.processes",
            "a process that is gone and still holds a GPU; on nodes that are Lindos's alone, one \
             that it did not start",
            "two looks in a row",
            2,
            processes,
        ),
    ];
    let shared = Shared::new(source, root.clone());
    let most = expected.devices.get("gpu").copied().unwrap_or(0);
    let check = |(name, meaning, thresholds, confirmations, judge)| -> Box<dyn Check> {
        let about = About {
            name,
            meaning,
            source: "NVML",
            thresholds,
            interval: INTERVAL,
            confirmations,
            // A driver that waits for a dead GPU takes its time.
            may_wait: true,
            cost: COST,
        };
        let context =
            Context { before: None, most, root: root.clone(), is_exclusive: expected.exclusive };
        Box::new(GpuCheck { shared: shared.clone(), about, judge, context })
    };
    table.into_iter().map(check).collect()
}
