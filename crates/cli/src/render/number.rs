//! Numbers for people, and sums that still add up after rounding.

/// `-` where a value is not known.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_string(), |value| value.to_string())
}

/// `1 job`, `2 jobs`
pub fn counted(count: u32, thing: &str) -> String {
    format!("{count} {}", plural(u64::from(count), thing))
}

/// `job`, `jobs`
pub fn plural(count: u64, thing: &str) -> String {
    if count == 1 { thing.to_string() } else { format!("{thing}s") }
}

/// A loss with four digits after the point.
pub fn loss(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_string(), |loss| format!("{loss:.4}"))
}

/// `950`, `41.2k`, `3.1M`
pub fn rate(per_second: f64) -> String {
    match per_second {
        rate if !rate.is_finite() => "-".to_string(),
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate if rate < 1e3 => format!("{rate:.0}"),
        rate if rate < 1e6 => format!("{:.1}k", rate / 1e3),
        rate if rate < 1e9 => format!("{:.1}M", rate / 1e6),
        rate => format!("{:.1}G", rate / 1e9),
    }
}

/// `1,048,576`
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `step/total`, as far as they are known.
pub fn steps(step: Option<u64>, total: Option<u64>) -> String {
    match (step, total) {
        (None, _) => "-".to_string(),
        (Some(step), None) => step.to_string(),
        (Some(step), Some(total)) => format!("{step}/{total}"),
    }
}

/// Shares `units` out in proportion to `parts`, so that they sum to `units` exactly: everybody
/// gets the whole units due, and those with the largest remainders one more (ties: the first).
pub fn apportion(parts: &[u64], units: u64) -> Vec<u64> {
    let total: u128 = parts.iter().map(|&part| u128::from(part)).sum();
    if total == 0 {
        return vec![0; parts.len()];
    }
    let due = |part: u64| u128::from(part) * u128::from(units);
    let mut shares: Vec<u64> = parts.iter().map(|&part| (due(part) / total) as u64).collect();
    let missing = units - shares.iter().sum::<u64>();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(due(parts[index]) % total), index));
    for &index in order.iter().take(missing as usize) {
        shares[index] += 1;
    }
    shares
}

/// `12.5` for 125 tenths.
pub fn tenths(count: u64) -> String {
    format!("{}.{}", count / 10, count % 10)
}

/// `12.05` for 1205 hundredths.
pub fn hundredths(count: u64) -> String {
    format!("{}.{:02}", count / 100, count % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_sum_to_the_whole() {
        assert_eq!(apportion(&[1, 1, 1], 1000), [334, 333, 333]);
        assert_eq!(apportion(&[0, 0], 1000), [0, 0]);
        assert_eq!(apportion(&[u64::MAX / 2, 1], 1000), [1000, 0]);
        for parts in [vec![7, 11, 13], vec![1; 13], vec![999, 1], vec![1, 999_999_999_999]] {
            assert_eq!(apportion(&parts, 1000).iter().sum::<u64>(), 1000, "{parts:?}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let said = [0.0, 9.94, 950.0, 41_200.0, 3.14e6, 2e10, f64::NAN].map(rate);
        assert_eq!(said, ["0.0", "9.9", "950", "41.2k", "3.1M", "20.0G", "-"]);
        assert_eq!([7, 950, 1000, 1_048_576].map(grouped), ["7", "950", "1,000", "1,048,576"]);
        assert_eq!(steps(Some(3), Some(9)), "3/9");
        assert_eq!(steps(None, Some(9)), "-");
        assert_eq!((tenths(1000), hundredths(1205)), ("100.0".into(), "12.05".into()));
    }
}
