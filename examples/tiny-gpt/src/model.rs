//! A decoder-only transformer over bytes, after GPT-2: learned positions, pre-norm blocks of
//! causal attention and an MLP, one table for reading bytes and for predicting them. There are
//! no biases but those of the norms, and the MLP squares its ReLU (So et al., 2021), which
//! costs less than GELU on a CPU.
//!
//! All weights stand in one flat vector, in the order of [`Layout`]; so do their gradients and
//! the optimizer's moments. Exchange, optimizer and checkpoints then know nothing of layers.

use std::collections::HashMap;

use candle_core::{Device, Result, Tensor, Var};

use crate::config::Config;
use crate::ops::{causal_softmax, cross_entropy, layer_norm};
use crate::random::Random;

/// One token a byte.
pub const VOCABULARY: usize = 256;

/// GPT-2's deviation for fresh weights.
const DEVIATION: f64 = 0.02;

/// A named piece of the flat vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    pub name: String,
    pub shape: Vec<usize>,
    pub offset: usize,
    start: Start,
}

/// What a parameter is before the first step.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Start {
    /// Normal numbers of this deviation.
    Random(f64),
    Ones,
    Zeros,
}

impl Parameter {
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len()
    }

    /// Matrices decay, norms do not.
    pub fn decays(&self) -> bool {
        self.shape.len() > 1
    }
}

/// Where every parameter stands in the flat vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    pub parameters: Vec<Parameter>,
    pub len: usize,
}

impl Layout {
    pub fn new(config: &Config) -> Self {
        let (width, context) = (config.width, config.context);
        let fresh = Start::Random(DEVIATION);
        // What is added to the residual stream is scaled by the number of additions.
        let added = Start::Random(DEVIATION / (2.0 * config.layers as f64).sqrt());
        let mut layout = Self { parameters: Vec::new(), len: 0 };
        layout.push("bytes", &[VOCABULARY, width], fresh);
        layout.push("positions", &[context, width], fresh);
        for layer in 0..config.layers {
            let name = |part: &str| format!("layer{layer}.{part}");
            layout.push(&name("norm1.gain"), &[width], Start::Ones);
            layout.push(&name("norm1.bias"), &[width], Start::Zeros);
            layout.push(&name("query"), &[width, width], fresh);
            layout.push(&name("key"), &[width, width], fresh);
            layout.push(&name("value"), &[width, width], fresh);
            layout.push(&name("out"), &[width, width], added);
            layout.push(&name("norm2.gain"), &[width], Start::Ones);
            layout.push(&name("norm2.bias"), &[width], Start::Zeros);
            layout.push(&name("up"), &[width, 4 * width], fresh);
            layout.push(&name("down"), &[4 * width, width], added);
        }
        layout.push("norm.gain", &[width], Start::Ones);
        layout.push("norm.bias", &[width], Start::Zeros);
        layout
    }

    fn push(&mut self, name: &str, shape: &[usize], start: Start) {
        let (name, shape) = (name.to_owned(), shape.to_vec());
        let parameter = Parameter { name, shape, offset: self.len, start };
        self.len += parameter.len();
        self.parameters.push(parameter);
    }

    /// Fresh weights: a function of the seed.
    pub fn initial_weights(&self, config: &Config) -> Vec<f32> {
        let mut weights = Vec::with_capacity(self.len);
        for (index, parameter) in self.parameters.iter().enumerate() {
            let mut random = Random::new(&[config.seed, u64::MAX, index as u64]);
            weights.extend((0..parameter.len()).map(|_| match parameter.start {
                Start::Random(deviation) => (random.normal() * deviation) as f32,
                Start::Ones => 1.0,
                Start::Zeros => 0.0,
            }));
        }
        weights
    }
}

/// The weights as candle's variables, for the micro-batches of one step.
pub struct Model<'a> {
    config: &'a Config,
    layout: &'a Layout,
    variables: HashMap<&'a str, Var>,
}

impl<'a> Model<'a> {
    pub fn new(config: &'a Config, layout: &'a Layout, weights: &[f32]) -> Result<Self> {
        assert_eq!(weights.len(), layout.len, "one weight for each place of the layout");
        let variables = layout
            .parameters
            .iter()
            .map(|p| {
                let tensor =
                    Tensor::from_slice(&weights[p.range()], p.shape.as_slice(), &Device::Cpu)?;
                Ok((p.name.as_str(), Var::from_tensor(&tensor)?))
            })
            .collect::<Result<_>>()?;
        Ok(Self { config, layout, variables })
    }

    /// The mean loss over `sequences`, each of context + 1 bytes.
    pub fn loss(&self, sequences: &[&[u8]]) -> Result<f32> {
        self.forward(sequences)?.to_scalar()
    }

    /// The gradient of the mean loss in the order of the layout, and behind it the loss.
    pub fn gradient_and_loss(&self, sequences: &[&[u8]]) -> Result<Vec<f32>> {
        let loss = self.forward(sequences)?;
        let gradients = loss.backward()?;
        let mut flat = Vec::with_capacity(self.layout.len + 1);
        for parameter in &self.layout.parameters {
            let gradient = gradients
                .get(&self.variables[parameter.name.as_str()])
                .expect("every parameter takes part in the loss");
            flat.extend(gradient.flatten_all()?.to_vec1::<f32>()?);
        }
        flat.push(loss.to_scalar()?);
        Ok(flat)
    }

    fn forward(&self, sequences: &[&[u8]]) -> Result<Tensor> {
        let targets = sequences.iter().flat_map(|s| s[1..].iter().copied()).collect();
        cross_entropy(&self.logits(sequences)?, targets)
    }

    /// One row for each position of each sequence.
    fn logits(&self, sequences: &[&[u8]]) -> Result<Tensor> {
        let (batch, time, width) = (sequences.len(), self.config.context, self.config.width);
        assert!(sequences.iter().all(|s| s.len() == time + 1), "context + 1 bytes each");
        let inputs: Vec<u32> =
            sequences.iter().flat_map(|s| s[..time].iter().copied().map(u32::from)).collect();

        let inputs = Tensor::from_vec(inputs, batch * time, &Device::Cpu)?;
        let mut x = self
            .get("bytes")
            .index_select(&inputs, 0)?
            .reshape((batch, time, width))?
            .broadcast_add(self.get("positions"))?
            .reshape((batch * time, width))?;
        for layer in 0..self.config.layers {
            x = self.block(layer, batch, &x)?;
        }
        let x = layer_norm(&x, self.get("norm.gain"), self.get("norm.bias"))?;
        x.matmul(&self.get("bytes").t()?)
    }

    fn block(&self, layer: usize, batch: usize, x: &Tensor) -> Result<Tensor> {
        let (time, width, heads) = (self.config.context, self.config.width, self.config.heads);
        let get = |part: &str| self.get(&format!("layer{layer}.{part}"));
        let by_head = |x: Tensor| {
            x.reshape((batch, time, heads, width / heads))?.transpose(1, 2)?.contiguous()
        };

        let normed = layer_norm(x, get("norm1.gain"), get("norm1.bias"))?;
        let query = by_head(normed.matmul(get("query"))?)?;
        let key = by_head(normed.matmul(get("key"))?)?;
        let value = by_head(normed.matmul(get("value"))?)?;
        let scale = 1.0 / ((width / heads) as f32).sqrt();
        let attention = causal_softmax(&query.matmul(&key.t()?)?, scale)?;
        let mixed = attention
            .matmul(&value)?
            .transpose(1, 2)?
            .contiguous()?
            .reshape((batch * time, width))?;
        let x = (x + mixed.matmul(get("out"))?)?;

        let normed = layer_norm(&x, get("norm2.gain"), get("norm2.bias"))?;
        let hidden = normed.matmul(get("up"))?.relu()?.sqr()?;
        x + hidden.matmul(get("down"))?
    }

    fn get(&self, name: &str) -> &Tensor {
        self.variables[name].as_tensor()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Config {
        Config { layers: 2, width: 8, heads: 2, context: 6, ..Config::default() }
    }

    #[test]
    fn fresh_weights_guess_evenly() {
        let config = tiny();
        let layout = Layout::new(&config);
        let weights = layout.initial_weights(&config);
        let model = Model::new(&config, &layout, &weights).unwrap();
        let loss = model.loss(&[b"abcdefg"]).unwrap();
        assert!((loss - 256f32.ln()).abs() < 0.05, "{loss}");
    }

    /// Larger matrices than fresh ones, so that nothing drowns in rounding.
    fn bold_weights(config: &Config, layout: &Layout) -> Vec<f32> {
        let mut weights = layout.initial_weights(config);
        for parameter in layout.parameters.iter().filter(|p| p.decays()) {
            weights[parameter.range()].iter_mut().for_each(|w| *w *= 10.0);
        }
        weights
    }

    /// The whole backward pass against differences of the loss.
    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let config = tiny();
        let layout = Layout::new(&config);
        let weights = bold_weights(&config, &layout);
        let sequences: [&[u8]; 2] = [b"abcdefg", b"gfedcba"];
        let loss_at = |weights: &[f32]| {
            Model::new(&config, &layout, weights).unwrap().loss(&sequences).unwrap()
        };
        let model = Model::new(&config, &layout, &weights).unwrap();
        let gradient = model.gradient_and_loss(&sequences).unwrap();
        for parameter in &layout.parameters {
            // The steepest place of each parameter.
            let place = parameter
                .range()
                .max_by(|a, b| gradient[*a].abs().total_cmp(&gradient[*b].abs()))
                .unwrap();
            let (mut above, mut below) = (weights.clone(), weights.clone());
            let h = 1e-2;
            above[place] += h;
            below[place] -= h;
            let slope = (loss_at(&above) - loss_at(&below)) / (2.0 * h);
            let off = (slope - gradient[place]).abs() / gradient[place].abs();
            assert!(off < 0.03, "{}: {slope} against {}", parameter.name, gradient[place]);
        }
    }

    #[test]
    fn a_position_does_not_see_what_follows_it() {
        let config = tiny();
        let layout = Layout::new(&config);
        let weights = bold_weights(&config, &layout);
        let model = Model::new(&config, &layout, &weights).unwrap();
        let logits = |sequence: &[u8]| model.logits(&[sequence]).unwrap().to_vec2().unwrap();
        let (one, other): (Vec<Vec<f32>>, Vec<_>) = (logits(b"abcdef?"), logits(b"abcxef?"));
        assert_eq!(one[..3], other[..3]);
        for position in 3..6 {
            assert_ne!(one[position], other[position]);
        }
    }
}
