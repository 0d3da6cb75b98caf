//! The figures that a burn-in is held against: of a platform of the catalogue, or of a file.

use lindos_model::file::{FileError, Source};
use lindos_model::fleet::platform::{Platform, catalogue, unknown};
use serde::Deserialize;
use std::path::Path;

/// The part of a datasheet's peak below which a GPU is taken to be faulty. An assumption: large
/// BF16 products reach between 70 and 80% of the peak of an H100 or H200 that is well, and the
/// peak itself supposes a clock that the power limit does not allow.
pub const SHARE_OF_PEAK: f64 = 0.6;

/// What a node should reach. What nobody says is measured and not judged.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expected {
    /// A platform of the catalogue, for what the file does not say.
    pub platform: Option<String>,
    /// Rounds of the built-in computation that each core does a second.
    pub cpu_rounds_per_s: Option<f64>,
    /// Of all cores together, in GB/s (10^9 bytes).
    pub memory_write_gb_per_s: Option<f64>,
    pub memory_read_gb_per_s: Option<f64>,
    /// In MB/s (10^6 bytes).
    pub disk_write_mb_per_s: Option<f64>,
    pub disk_read_mb_per_s: Option<f64>,
    /// Each way, between two nodes.
    pub network_gbit_per_s: Option<f64>,
    /// The round trip that 99 of 100 stay below, in microseconds.
    pub network_p99_us: Option<f64>,
    pub gpus: Option<u16>,
    /// Usable memory of one GPU, in GB.
    pub gpu_memory_gb: Option<f64>,
    /// What one GPU reaches in BF16, in TFLOP/s.
    pub gpu_tflops: Option<f64>,
}

impl Expected {
    /// Of a platform of the catalogue.
    pub fn of_platform(name: &str) -> Result<Expected, (String, String)> {
        let names = catalogue().keys().map(String::as_str);
        let platform = catalogue().get(name).ok_or_else(|| unknown(name, names))?;
        let only_name = Expected { platform: Some(name.to_string()), ..Expected::default() };
        Ok(only_name.or_of(platform))
    }

    /// Of a TOML file, whose own figures go before those of the platform that it names.
    pub fn parse(path: &Path, text: &str) -> Result<Expected, FileError> {
        let source = Source { path, text };
        let read: Expected = source.parse()?;
        if let Some((key, _)) = read.figures().into_iter().find(|(_, figure)| !is_a_figure(*figure))
        {
            let hint = Some("a figure is more than 0".to_string());
            return Err(source.error_at_key(key, format!("{key} is no figure"), hint));
        }
        let Some(name) = &read.platform else { return Ok(read) };
        let names = catalogue().keys().map(String::as_str);
        let Some(platform) = catalogue().get(name) else {
            let (message, hint) = unknown(name, names);
            return Err(source.error_at_key("platform", message, Some(hint)));
        };
        Ok(read.or_of(platform))
    }

    fn or_of(self, platform: &Platform) -> Expected {
        let peak = platform.bf16_tflops.map(|peak| f64::from(peak) * SHARE_OF_PEAK);
        Expected {
            gpus: self.gpus.or(platform.gpus_per_node),
            gpu_memory_gb: self.gpu_memory_gb.or(platform.memory_gb.map(f64::from)),
            gpu_tflops: self.gpu_tflops.or(peak),
            ..self
        }
    }

    fn figures(&self) -> Vec<(&'static str, f64)> {
        let all = [
            ("cpu_rounds_per_s", self.cpu_rounds_per_s),
            ("memory_write_gb_per_s", self.memory_write_gb_per_s),
            ("memory_read_gb_per_s", self.memory_read_gb_per_s),
            ("disk_write_mb_per_s", self.disk_write_mb_per_s),
            ("disk_read_mb_per_s", self.disk_read_mb_per_s),
            ("network_gbit_per_s", self.network_gbit_per_s),
            ("network_p99_us", self.network_p99_us),
            ("gpus", self.gpus.map(f64::from)),
            ("gpu_memory_gb", self.gpu_memory_gb),
            ("gpu_tflops", self.gpu_tflops),
        ];
        all.into_iter().filter_map(|(key, figure)| Some((key, figure?))).collect()
    }
}

fn is_a_figure(figure: f64) -> bool {
    figure.is_finite() && figure > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Expected, FileError> {
        Expected::parse(Path::new("e.toml"), text)
    }

    #[test]
    fn a_platform_gives_its_figures_and_a_file_may_say_otherwise() {
        let h100 = Expected::of_platform("hgx-h100").unwrap();
        assert_eq!((h100.gpus, h100.gpu_memory_gb), (Some(8), Some(80.0)));
        assert!((h100.gpu_tflops.unwrap() - 593.4).abs() < 0.01);
        let file = parse("platform = \"hgx-h100\"\ngpu_tflops = 700\ndisk_read_mb_per_s = 3000");
        let file = file.unwrap();
        assert_eq!((file.gpus, file.gpu_tflops), (Some(8), Some(700.0)));
        assert_eq!(file.disk_read_mb_per_s, Some(3000.0));
    }

    #[test]
    fn nonsense_is_answered_with_what_to_do() {
        assert_eq!(Expected::of_platform("hgx-h10").unwrap_err().1, "did you mean `hgx-h100`?");
        let text = |error: FileError| error.to_string();
        assert!(text(parse("platform = \"hgx-h10\"").unwrap_err()).contains("did you mean"));
        assert!(text(parse("gpu_tflop = 1").unwrap_err()).contains("did you mean `gpu_tflops`"));
        assert!(text(parse("gpu_tflops = -1").unwrap_err()).contains("more than 0"));
        assert!(text(parse("disk_read_mb_per_s = nan").unwrap_err()).contains("more than 0"));
    }
}
