//! AdamW (Loshchilov and Hutter, 2019) over the flat vector, with warm-up, cosine decay and
//! clipping by the global norm. Written out here because candle's keeps its moments to itself,
//! and a checkpoint without the moments does not resume the same run.

use crate::config::Config;
use crate::model::Layout;

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.95;
const EPSILON: f32 = 1e-8;
const DECAY: f32 = 0.1;
const NORM_MAX: f64 = 1.0;
/// What is left of the learning rate at the end.
const FLOOR: f64 = 0.1;

/// All that a resumed run needs besides its flags and data.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Steps done.
    pub step: u64,
    pub weights: Vec<f32>,
    /// Running mean of the gradient.
    pub first_moment: Vec<f32>,
    /// Running mean of its square.
    pub second_moment: Vec<f32>,
}

impl State {
    pub fn new(config: &Config, layout: &Layout) -> Self {
        Self {
            step: 0,
            weights: layout.initial_weights(config),
            first_moment: vec![0.0; layout.len],
            second_moment: vec![0.0; layout.len],
        }
    }

    /// One step along `gradient`, which may be scaled down in place.
    pub fn update(&mut self, config: &Config, layout: &Layout, gradient: &mut [f32]) {
        assert_eq!(gradient.len(), layout.len, "one slope for each weight");
        clip(gradient);
        self.step += 1;
        let rate = learning_rate(config, self.step);
        let age = i32::try_from(self.step).unwrap_or(i32::MAX);
        let first_scale = 1.0 / (1.0 - BETA1.powi(age));
        let second_scale = 1.0 / (1.0 - BETA2.powi(age));
        for parameter in &layout.parameters {
            let keep = if parameter.decays() { 1.0 - rate * DECAY } else { 1.0 };
            for i in parameter.range() {
                let slope = gradient[i];
                let first = BETA1 * self.first_moment[i] + (1.0 - BETA1) * slope;
                let second = BETA2 * self.second_moment[i] + (1.0 - BETA2) * slope * slope;
                self.first_moment[i] = first;
                self.second_moment[i] = second;
                let deviation = (second * second_scale).sqrt() + EPSILON;
                self.weights[i] = self.weights[i] * keep - rate * first * first_scale / deviation;
            }
        }
    }
}

fn clip(gradient: &mut [f32]) {
    let norm = gradient.iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>().sqrt();
    if norm > NORM_MAX {
        let factor = (NORM_MAX / norm) as f32;
        for slope in gradient {
            *slope *= factor;
        }
    }
}

/// Rises in a line over a tenth of the steps, then falls along half a cosine.
fn learning_rate(config: &Config, step: u64) -> f32 {
    let warm_up = (config.steps / 10).max(1);
    let share = if step <= warm_up {
        step as f64 / warm_up as f64
    } else {
        let progress = (step - warm_up) as f64 / (config.steps - warm_up).max(1) as f64;
        FLOOR + (1.0 - FLOOR) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
    };
    (config.lr * share) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_to_its_peak_and_falls_to_a_tenth() {
        let config = Config { steps: 100, lr: 1.0, ..Config::default() };
        let at = |step| learning_rate(&config, step);
        assert!((at(5) - 0.5).abs() < 1e-6);
        assert!((at(10) - 1.0).abs() < 1e-6);
        assert!((at(55) - 0.55).abs() < 1e-6);
        assert!((at(100) - 0.1).abs() < 1e-6);
    }

    #[test]
    fn the_first_step_is_as_long_as_the_rate_and_only_matrices_decay() {
        let config = Config { layers: 1, width: 4, heads: 1, context: 2, ..Config::default() };
        let layout = Layout::new(&config);
        let mut state = State::new(&config, &layout);
        let before = state.weights.clone();
        let mut gradient = vec![0.0; layout.len];
        let gain = layout.parameters.iter().find(|p| p.name == "norm.gain").unwrap().offset;
        gradient[gain] = 50.0;
        state.update(&config, &layout, &mut gradient);
        let rate = learning_rate(&config, 1);
        assert!((gradient[gain] - 1.0).abs() < 1e-6, "clipped to norm 1: {}", gradient[gain]);
        assert!((before[gain] - state.weights[gain] - rate).abs() < 1e-6);
        assert!((state.weights[0] - before[0] * (1.0 - rate * DECAY)).abs() < 1e-9);
        assert_eq!(state.weights[gain + 1].to_bits(), before[gain + 1].to_bits());
    }
}
