//! Three fused operations with their gradients.
//!
//! candle builds layer norm, softmax and cross-entropy from a dozen broadcasting operations
//! each, and its own fused ones have no gradient. On one core the fused ones here are several
//! times as fast. All loops run in a fixed order, so equal inputs give equal bits.

use candle_core::{CpuStorage, CustomOp1, CustomOp3, Error, Layout, Result, Shape, Tensor, bail};

/// Keeps the division finite for a row of equal values.
const EPSILON: f32 = 1e-5;

/// The values of a contiguous f32 tensor, in place.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout, operation: &str) -> Result<&'a [f32]> {
    let slice = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&slice[start..end]),
        None => bail!("{operation} takes contiguous tensors"),
    }
}

fn to_vec(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

/// `(x − mean) / deviation · gain + bias` over the last dimension.
pub fn layer_norm(x: &Tensor, gain: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op3(gain, bias, LayerNorm)
}

struct LayerNorm;

/// Mean and 1/deviation of a row.
fn moments(row: &[f32]) -> (f32, f32) {
    let width = row.len() as f32;
    let mean = row.iter().sum::<f32>() / width;
    let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / width;
    (mean, 1.0 / (variance + EPSILON).sqrt())
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        gain: &CpuStorage,
        gain_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = values(x, x_layout, self.name())?;
        let gain = values(gain, gain_layout, self.name())?;
        let bias = values(bias, bias_layout, self.name())?;
        let mut out = Vec::with_capacity(x.len());
        for row in x.chunks_exact(gain.len()) {
            let (mean, scale) = moments(row);
            out.extend(
                row.iter().zip(gain.iter().zip(bias)).map(|(x, (g, b))| (x - mean) * scale * g + b),
            );
        }
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gain: &Tensor,
        _bias: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (xs, gains, grads) = (to_vec(x)?, to_vec(gain)?, to_vec(grad)?);
        let width = gains.len();
        let mut x_grad = Vec::with_capacity(xs.len());
        let (mut gain_grad, mut bias_grad) = (vec![0f32; width], vec![0f32; width]);
        let mut normed = vec![0f32; width];
        let mut scaled = vec![0f32; width];
        for (row, grad) in xs.chunks_exact(width).zip(grads.chunks_exact(width)) {
            let (mean, scale) = moments(row);
            for i in 0..width {
                normed[i] = (row[i] - mean) * scale;
                scaled[i] = grad[i] * gains[i];
                gain_grad[i] += grad[i] * normed[i];
                bias_grad[i] += grad[i];
            }
            let sum = scaled.iter().sum::<f32>() / width as f32;
            let dot = scaled.iter().zip(&normed).map(|(s, n)| s * n).sum::<f32>() / width as f32;
            x_grad.extend(scaled.iter().zip(&normed).map(|(s, n)| scale * (s - sum - n * dot)));
        }
        let device = x.device();
        Ok((
            Some(Tensor::from_vec(x_grad, x.shape(), device)?),
            Some(Tensor::from_vec(gain_grad, width, device)?),
            Some(Tensor::from_vec(bias_grad, width, device)?),
        ))
    }
}

/// Softmax of `scale · scores` over the last dimension, where position i sees 0..=i only.
/// `scores` is (…, time, time).
pub fn causal_softmax(scores: &Tensor, scale: f32) -> Result<Tensor> {
    scores.contiguous()?.apply_op1(CausalSoftmax { scale })
}

struct CausalSoftmax {
    scale: f32,
}

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, scores: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let scores = values(scores, layout, self.name())?;
        let time = layout.shape().dims().last().copied().unwrap_or(1);
        let mut out = vec![0f32; scores.len()];
        let rows = scores.chunks_exact(time).zip(out.chunks_exact_mut(time));
        for (index, (row, out)) in rows.enumerate() {
            let seen = index % time + 1;
            softmax(&row[..seen], &mut out[..seen], self.scale);
        }
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, _scores: &Tensor, out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let time = out.dims().last().copied().unwrap_or(1);
        let (outs, mut grads) = (to_vec(out)?, to_vec(grad)?);
        for (out, grad) in outs.chunks_exact(time).zip(grads.chunks_exact_mut(time)) {
            // Zeros beyond the diagonal of `out` keep the gradient there at zero.
            let dot = out.iter().zip(grad.iter()).map(|(o, g)| o * g).sum::<f32>();
            for (out, grad) in out.iter().zip(grad) {
                *grad = self.scale * out * (*grad - dot);
            }
        }
        Ok(Some(Tensor::from_vec(grads, out.shape(), out.device())?))
    }
}

fn softmax(row: &[f32], out: &mut [f32], scale: f32) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0f32;
    for (x, out) in row.iter().zip(out.iter_mut()) {
        *out = ((x - max) * scale).exp();
        sum += *out;
    }
    let factor = 1.0 / sum;
    for x in out {
        *x *= factor;
    }
}

/// The mean over the rows of −ln softmax(row)[target]; `logits` is (rows, classes).
pub fn cross_entropy(logits: &Tensor, targets: Vec<u8>) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    if rows != targets.len() || targets.iter().any(|t| usize::from(*t) >= classes) {
        return Err(Error::Msg(format!("{} targets for {rows}×{classes}", targets.len())));
    }
    logits.contiguous()?.apply_op1(CrossEntropy { targets })
}

struct CrossEntropy {
    targets: Vec<u8>,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let logits = values(logits, layout, self.name())?;
        let classes = logits.len() / self.targets.len();
        let mut sum = 0f32;
        for (row, target) in logits.chunks_exact(classes).zip(&self.targets) {
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let total = row.iter().map(|x| (x - max).exp()).sum::<f32>();
            sum += total.ln() + max - row[usize::from(*target)];
        }
        Ok((CpuStorage::F32(vec![sum / self.targets.len() as f32]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (rows, classes) = logits.dims2()?;
        let factor = grad.to_scalar::<f32>()? / rows as f32;
        let xs = to_vec(logits)?;
        let mut grads = vec![0f32; xs.len()];
        let pairs = xs.chunks_exact(classes).zip(grads.chunks_exact_mut(classes));
        for ((row, grad), target) in pairs.zip(&self.targets) {
            softmax(row, grad, 1.0);
            grad[usize::from(*target)] -= 1.0;
            for slope in grad {
                *slope *= factor;
            }
        }
        Ok(Some(Tensor::from_vec(grads, logits.shape(), logits.device())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use candle_core::{D, Device, Var};

    fn sample(seed: u64, shape: &[usize]) -> Var {
        let mut random = Random::new(&[seed]);
        let count = shape.iter().product();
        let data: Vec<f32> = (0..count).map(|_| random.normal() as f32).collect();
        Var::from_vec(data, shape, &Device::Cpu).unwrap()
    }

    /// Value and gradients of `fused` and of candle's `plain` formula, within rounding.
    fn same(vars: &[&Var], fused: &Tensor, plain: &Tensor) {
        let close = |a: &Tensor, b: &Tensor| {
            let (a, b) = (to_vec(a).unwrap(), to_vec(b).unwrap());
            assert_eq!(a.len(), b.len());
            let off = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 2e-5, "they differ by {off}");
        };
        close(fused, plain);
        // A weighted sum, so that no gradient is constant.
        let weights = sample(99, fused.dims());
        let loss = |x: &Tensor| (x * weights.as_tensor()).unwrap().sum_all().unwrap();
        let fused = loss(fused).backward().unwrap();
        let plain = loss(plain).backward().unwrap();
        for var in vars {
            close(fused.get(var).unwrap(), plain.get(var).unwrap());
        }
    }

    #[test]
    fn layer_norm_is_its_formula() {
        let (x, gain, bias) = (sample(1, &[2, 3, 8]), sample(2, &[8]), sample(3, &[8]));
        let fused = layer_norm(&x, &gain, &bias).unwrap();
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1).unwrap()).unwrap();
        let variance = centred.sqr().unwrap().mean_keepdim(D::Minus1).unwrap();
        let deviation = (variance + f64::from(EPSILON)).unwrap().sqrt().unwrap();
        let plain = centred.broadcast_div(&deviation).unwrap();
        let plain = plain.broadcast_mul(&gain).unwrap().broadcast_add(&bias).unwrap();
        same(&[&x, &gain, &bias], &fused, &plain);
    }

    #[test]
    fn causal_softmax_is_its_formula() {
        let scores = sample(4, &[2, 5, 5]);
        let fused = causal_softmax(&scores, 0.5).unwrap();
        let mask: Vec<f32> =
            (0..25).map(|i| if i % 5 > i / 5 { f32::NEG_INFINITY } else { 0.0 }).collect();
        let mask = Tensor::from_vec(mask, (5, 5), &Device::Cpu).unwrap();
        let masked = (scores.as_tensor() * 0.5).unwrap().broadcast_add(&mask).unwrap();
        let powers = masked.exp().unwrap();
        let plain = powers.broadcast_div(&powers.sum_keepdim(D::Minus1).unwrap()).unwrap();
        same(&[&scores], &fused, &plain);
    }

    #[test]
    fn cross_entropy_is_its_formula() {
        let logits = sample(5, &[3, 4]);
        let fused = cross_entropy(&logits, vec![0, 3, 1]).unwrap();
        let powers = logits.exp().unwrap();
        let chances = powers.broadcast_div(&powers.sum_keepdim(1).unwrap()).unwrap();
        let index = Tensor::from_vec(vec![0u32, 3, 1], (3, 1), &Device::Cpu).unwrap();
        let plain = chances.gather(&index, 1).unwrap().log().unwrap().mean_all().unwrap();
        same(&[&logits], &fused, &plain.neg().unwrap());
    }

    #[test]
    fn targets_that_do_not_fit_are_an_error() {
        let logits = sample(5, &[3, 4]);
        assert!(cross_entropy(&logits, vec![0, 3]).is_err());
        assert!(cross_entropy(&logits, vec![0, 3, 4]).is_err());
    }
}
