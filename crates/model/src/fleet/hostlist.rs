//! Slurm's short way of writing many host names: `n[001-128]`, `r[1-2]n[1-4,7],login`.

/// The most names that one expression may stand for.
const NAMES_MAX: usize = super::FLEET_NODES_MAX as usize;

/// All names of an expression, in its order. Several brackets in one name multiply, the last
/// turning fastest. A number keeps the width of the first of its range: `[08-10]` is 08, 09, 10.
pub fn expand(expression: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for item in split(expression)? {
        if item.is_empty() {
            return Err(format!("`{expression}` has an empty name between its commas"));
        }
        expand_one(item, &mut names)?;
    }
    Ok(names)
}

/// At the commas that stand outside of brackets.
fn split(expression: &str) -> Result<Vec<&str>, String> {
    let mut items = Vec::new();
    let mut start = 0;
    let mut is_inside = false;
    for (at, byte) in expression.bytes().enumerate() {
        match byte {
            b'[' if is_inside => return Err(format!("`{expression}` has a `[` inside brackets")),
            b']' if !is_inside => return Err(format!("`{expression}` has a `]` without its `[`")),
            b'[' => is_inside = true,
            b']' => is_inside = false,
            b',' if !is_inside => {
                items.push(expression[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if is_inside {
        return Err(format!("`{expression}` has a `[` without its `]`"));
    }
    items.push(expression[start..].trim());
    Ok(items)
}

fn expand_one(item: &str, names: &mut Vec<String>) -> Result<(), String> {
    let mut made = vec![String::new()];
    let mut rest = item;
    while let Some(open) = rest.find('[') {
        let (text, after) = rest.split_at(open);
        let close = after.find(']').ok_or_else(|| format!("`{item}` has a `[` without its `]`"))?;
        let numbers = numbers(&after[1..close], item)?;
        if made.len().saturating_mul(numbers.len()) > NAMES_MAX - names.len() {
            return Err(format!("`{item}` stands for more than {NAMES_MAX} names"));
        }
        made = made
            .iter()
            .flat_map(|name| numbers.iter().map(move |number| format!("{name}{text}{number}")))
            .collect();
        rest = &after[close + 1..];
    }
    if made.len() > NAMES_MAX - names.len() {
        return Err(format!("`{item}` stands for more than {NAMES_MAX} names"));
    }
    for name in &mut made {
        name.push_str(rest);
    }
    names.append(&mut made);
    Ok(())
}

/// What stands between brackets: `001-128,200`.
fn numbers(list: &str, item: &str) -> Result<Vec<String>, String> {
    let mut numbers = Vec::new();
    for range in list.split(',').map(str::trim) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let parse = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let value = is_number.then(|| text.parse::<u64>().ok()).flatten();
            value.ok_or_else(|| format!("`{item}`: `{range}` is not a number or a range like 1-16"))
        };
        let (from, to) = (parse(first)?, parse(last)?);
        if from > to {
            return Err(format!("`{item}`: the range {range} runs backwards"));
        }
        if to - from >= (NAMES_MAX - numbers.len().min(NAMES_MAX)) as u64 {
            return Err(format!("`{item}` stands for more than {NAMES_MAX} names"));
        }
        let width = first.len();
        numbers.extend((from..=to).map(|number| format!("{number:0width$}")));
    }
    Ok(numbers)
}

/// Joins names, in their order, and folds runs that differ only in a final number. A variable of
/// the environment holds at most 128 KiB, and a gang may have 125,000 nodes.
pub fn fold<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut groups: Vec<(&str, Vec<Run<'a>>)> = Vec::new();
    for name in names {
        let digits = name.len() - name.bytes().rev().take_while(u8::is_ascii_digit).count();
        let (prefix, number) = name.split_at(digits);
        match groups.last_mut() {
            Some((last, runs)) if *last == prefix && !number.is_empty() => match runs.last_mut() {
                Some(run) if follows(run.last, number) => run.last = number,
                _ => runs.push(Run { first: number, last: number }),
            },
            _ => groups.push((prefix, vec![Run { first: number, last: number }])),
        }
    }
    let folded: Vec<String> = groups
        .iter()
        .map(|(prefix, runs)| match runs.as_slice() {
            [only] if only.first == only.last => format!("{prefix}{}", only.first),
            many => {
                let said: Vec<String> = many.iter().map(Run::said).collect();
                format!("{prefix}[{}]", said.join(","))
            }
        })
        .collect();
    folded.join(",")
}

struct Run<'a> {
    first: &'a str,
    last: &'a str,
}

impl Run<'_> {
    fn said(&self) -> String {
        if self.first == self.last {
            self.first.to_string()
        } else {
            format!("{}-{}", self.first, self.last)
        }
    }
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
    use proptest::prelude::*;

    #[test]
    fn an_expression_is_its_names_in_order() {
        for (expression, expected) in [
            ("login", vec!["login"]),
            ("n[1-3]", vec!["n1", "n2", "n3"]),
            ("n[08-10]", vec!["n08", "n09", "n10"]),
            ("n[1,3-4]-ib", vec!["n1-ib", "n3-ib", "n4-ib"]),
            ("r[1-2]n[1-2]", vec!["r1n1", "r1n2", "r2n1", "r2n2"]),
            ("a, b[7]", vec!["a", "b7"]),
            ("10.0.0.[9-10]", vec!["10.0.0.9", "10.0.0.10"]),
        ] {
            assert_eq!(expand(expression).unwrap(), expected, "{expression}");
        }
    }

    #[test]
    fn a_bad_expression_says_what_is_wrong() {
        for (expression, expected) in [
            ("n[1-", "without its `]`"),
            ("n1]", "without its `[`"),
            ("n[[1]]", "inside brackets"),
            ("n[a-b]", "not a number or a range"),
            ("n[]", "not a number or a range"),
            ("n[3-1]", "runs backwards"),
            ("a,,b", "empty name"),
            ("", "empty name"),
            ("n[1-99999999999]", "more than 1000000 names"),
            ("n[1-2000]m[1-2000]", "more than 1000000 names"),
            ("n[1-600000],m[1-600000]", "more than 1000000 names"),
            ("n[99999999999999999999]", "not a number or a range"),
        ] {
            let error = expand(expression).unwrap_err();
            assert!(error.contains(expected), "{expression} gave {error}");
        }
    }

    #[test]
    fn a_whole_fleet_is_one_expression() {
        let names: Vec<String> = (0..125_000).map(|index| format!("n{index:06}")).collect();
        assert_eq!(fold(names.iter().map(String::as_str)), "n[000000-124999]");
    }

    fn name() -> impl Strategy<Value = String> {
        ("[a-z]{1,3}-?", 0_u64..120, 0_usize..5, "(-ib)?")
            .prop_map(|(prefix, number, width, suffix)| format!("{prefix}{number:0width$}{suffix}"))
    }

    proptest! {
        #[test]
        fn folded_names_unfold_to_themselves(names in prop::collection::vec(name(), 1..60)) {
            let folded = fold(names.iter().map(String::as_str));
            prop_assert_eq!(expand(&folded).unwrap(), names);
        }

        #[test]
        fn runs_of_names_fold_and_unfold(from in 0_u64..2000, count in 1_u64..300, width in 0_usize..6) {
            let names: Vec<String> =
                (from..from + count).map(|number| format!("n{number:0width$}")).collect();
            let folded = fold(names.iter().map(String::as_str));
            prop_assert_eq!(expand(&folded).unwrap(), names);
            // One run, or two where an unpadded number grows by a digit: n[9-10] is one.
            prop_assert!(folded.len() <= 2 * 12 + 4, "{folded}");
        }

        #[test]
        fn no_text_makes_it_panic(text in "[a-c0-9\\[\\], -]{0,24}") {
            let _ = expand(&text);
        }
    }

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
