//! A number, or two of them between which each job has its own.

use serde::de::value::{F64Deserializer, I64Deserializer};
use serde::de::{Error, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;

/// From `low` to `high`, both included; one number is both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount<T> {
    pub low: T,
    pub high: T,
}

impl<T: Copy + PartialEq> Amount<T> {
    pub fn one(value: T) -> Amount<T> {
        Amount { low: value, high: value }
    }

    pub fn is_range(&self) -> bool {
        self.low != self.high
    }
}

impl<'de, T: Deserialize<'de> + Copy + PartialOrd> Deserialize<'de> for Amount<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrTwo(PhantomData))
    }
}

struct OneOrTwo<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Copy + PartialOrd> Visitor<'de> for OneOrTwo<T> {
    type Value = Amount<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or two of them such as [1, 32]")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Amount<T>, E> {
        let number: I64Deserializer<E> = value.into_deserializer();
        Ok(both(T::deserialize(number)?))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Amount<T>, E> {
        let number: F64Deserializer<E> = value.into_deserializer();
        Ok(both(T::deserialize(number)?))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Amount<T>, A::Error> {
        let mut next = || {
            list.next_element::<T>()?
                .ok_or_else(|| A::Error::custom("a range is two numbers, such as [1, 32]"))
        };
        let (low, high) = (next()?, next()?);
        if list.next_element::<T>()?.is_some() {
            return Err(A::Error::custom("a range is two numbers, such as [1, 32]"));
        }
        if low.partial_cmp(&high).is_none_or(std::cmp::Ordering::is_gt) {
            return Err(A::Error::custom("the first of a range is the smaller one"));
        }
        Ok(Amount { low, high })
    }
}

fn both<T: Copy>(value: T) -> Amount<T> {
    Amount { low: value, high: value }
}
