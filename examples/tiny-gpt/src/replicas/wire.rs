//! What replicas send each other besides the messages of their agreement: parts, sums, states.

use anyhow::{Context, Result, ensure};
use xxhash_rust::xxh3::xxh3_128;

use crate::checkpoint::{from_bytes, to_bytes};
use crate::link::Kind;
use crate::optimizer::State;
use crate::replicas::agreement::Member;

/// A part, sum or state, which is of use in one view alone.
#[derive(Debug)]
pub struct Letter {
    pub view: u64,
    pub from: Member,
    pub kind: Kind,
    /// For parts and sums as `group.rs` has them; for states as [`pack`] does.
    pub content: Vec<u8>,
}

impl Letter {
    pub fn encode(view: u64, content: &[u8]) -> Vec<u8> {
        [&view.to_le_bytes(), content].concat()
    }

    pub fn decode(from: Member, kind: Kind, mut payload: Vec<u8>) -> Result<Self> {
        let view = payload.first_chunk().context("a letter without its view")?;
        let view = u64::from_le_bytes(*view);
        Ok(Self { view, from, kind, content: payload.split_off(8) })
    }

    /// The round of a part or sum.
    pub fn round(&self) -> Option<u64> {
        self.content.first_chunk().map(|round| u64::from_le_bytes(*round))
    }
}

/// All that a replica needs to go on, with a digest over it: the step, and, each after its
/// length, the corpus, the weights and both moments, and the last sum for whoever missed it.
pub fn pack(corpus: &[u8], state: &State, last_sum: &[f32]) -> Vec<u8> {
    let mut packed = state.step.to_le_bytes().to_vec();
    let mut append = |bytes: &[u8]| {
        packed.extend((bytes.len() as u64).to_le_bytes());
        packed.extend(bytes);
    };
    append(corpus);
    for vector in [&state.weights, &state.first_moment, &state.second_moment] {
        append(&to_bytes(vector));
    }
    append(&to_bytes(last_sum));
    [xxh3_128(&packed).to_le_bytes().as_slice(), &packed].concat()
}

/// The corpus, the state and the last sum, if they arrived as they were sent.
pub fn unpack(packed: &[u8]) -> Result<(Vec<u8>, State, Vec<f32>)> {
    let (digest, packed) = packed.split_first_chunk().context("a state without its digest")?;
    ensure!(
        u128::from_le_bytes(*digest) == xxh3_128(packed),
        "the state did not arrive as it was sent"
    );
    let (step, mut rest) = packed.split_first_chunk().context("a state without its step")?;
    let mut next = || {
        let (length, behind) = rest.split_first_chunk().context("a state that is cut off")?;
        let (bytes, behind) = usize::try_from(u64::from_le_bytes(*length))
            .ok()
            .and_then(|length| behind.split_at_checked(length))
            .context("a state that is cut off")?;
        rest = behind;
        anyhow::Ok(bytes)
    };
    let corpus = next()?.to_vec();
    let [weights, first_moment, second_moment, last_sum] =
        [next()?, next()?, next()?, next()?].map(from_bytes);
    let step = u64::from_le_bytes(*step);
    Ok((corpus, State { step, weights, first_moment, second_moment }, last_sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            step: 7,
            weights: vec![1.0, -0.0],
            first_moment: vec![3.0, 4.0],
            second_moment: vec![5.0, 6.5],
        }
    }

    #[test]
    fn a_state_arrives_as_it_was_sent() {
        let (corpus, arrived, sum) = unpack(&pack(b"text", &state(), &[8.0])).unwrap();
        assert_eq!((corpus.as_slice(), &arrived, sum), (&b"text"[..], &state(), vec![8.0]));
        assert_eq!(arrived.weights[1].to_bits(), (-0.0_f32).to_bits());
    }

    #[test]
    fn a_state_that_was_spoiled_or_cut_is_not_taken() {
        let packed = pack(b"text", &state(), &[8.0]);
        for length in 0..packed.len() {
            assert!(unpack(&packed[..length]).is_err(), "cut at {length}");
        }
        for place in 0..packed.len() {
            let mut spoiled = packed.clone();
            spoiled[place] ^= 1;
            assert!(unpack(&spoiled).is_err(), "spoiled at {place}");
        }
    }

    #[test]
    fn a_letter_tells_its_view_and_round() {
        let payload = Letter::encode(5, &9u64.to_le_bytes());
        let from = Member { replica: 2, epoch: 3 };
        let letter = Letter::decode(from, Kind::Part, payload).unwrap();
        assert_eq!((letter.view, letter.from, letter.round()), (5, from, Some(9)));
        assert!(Letter::decode(from, Kind::Part, vec![1, 2]).is_err());
    }
}
