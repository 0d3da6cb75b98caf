//! Slurm's short way of writing many host names: `n[0-2,7],login`.

/// Joins names, in their order, and folds runs that differ only in a final number. A variable of
/// the environment holds at most 128 KiB, and a gang may have 125,000 nodes.
pub fn fold<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for name in names {
        let digits = name.len() - name.bytes().rev().take_while(u8::is_ascii_digit).count();
        let (prefix, number) = name.split_at(digits);
        match groups.last_mut() {
            Some((last, numbers)) if *last == prefix && !number.is_empty() => numbers.push(number),
            _ => groups.push((prefix, vec![number])),
        }
    }
    let folded: Vec<String> = groups
        .iter()
        .map(|(prefix, numbers)| match numbers.as_slice() {
            [only] => format!("{prefix}{only}"),
            many => format!("{prefix}[{}]", ranges(many)),
        })
        .collect();
    folded.join(",")
}

fn ranges(numbers: &[&str]) -> String {
    let mut runs: Vec<(&str, &str)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, last)) if follows(last, number) => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let said: Vec<String> = runs
        .iter()
        .map(
            |(first, last)| {
                if first == last { (*first).to_string() } else { format!("{first}-{last}") }
            },
        )
        .collect();
    said.join(",")
}

/// Whether `next` is `last` plus one, and padded alike.
fn follows(last: &str, next: &str) -> bool {
    let padded = |text: &str| text.len() > 1 && text.starts_with('0');
    let alike = last.len() == next.len() || (!padded(last) && !padded(next));
    match (last.parse::<u64>(), next.parse::<u64>()) {
        (Ok(last), Ok(next)) => alike && last.checked_add(1) == Some(next),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_numbers_are_folded_in_order() {
        for (names, expected) in [
            (vec!["n0", "n1", "n2", "n7"], "n[0-2,7]"),
            (vec!["n9", "n10"], "n[9-10]"),
            (vec!["n09", "n10"], "n[09-10]"),
            (vec!["n09", "n010"], "n[09,010]"),
            (vec!["a", "b1"], "a,b1"),
            (vec!["b1", "a1", "b2"], "b1,a1,b2"),
            (vec!["10.0.0.9", "10.0.0.10"], "10.0.0.[9-10]"),
            (vec!["127.0.0.1", "127.0.0.1"], "127.0.0.[1,1]"),
            (vec![], ""),
        ] {
            assert_eq!(fold(names.iter().copied()), expected);
        }
    }

    #[test]
    fn a_whole_fleet_fits_a_variable() {
        let names: Vec<String> = (0..125_000).map(|index| format!("node{index:06}")).collect();
        assert_eq!(fold(names.iter().map(String::as_str)), "node[000000-124999]");
    }
}
