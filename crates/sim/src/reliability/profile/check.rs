//! From the file's tables to a profile, or to what is wrong in them.

use super::table::{
    CauseTable, DetectionTable, EffectTable, LemonsTable, LotTable, ObservedTable, ProfileTable,
    RepairTable, ShapeTable, TotalTable,
};
use super::{
    CAUSES_MAX, Cause, Detect, EffectRule, LOTS_MAX, Lemons, Lot, Profile, Recurs, RepairRule,
};
use crate::reliability::delay::Delay;
use crate::reliability::hazard::{Hazard, Shape};
use crate::reliability::unit::Unit;
use lindos_model::file::{FileError, Source, nearest};
use lindos_model::{Exit, Millis};

/// Of one unit and day; a unit that fails more often is not in use.
const PER_DAY_MAX: f64 = 100.0;
/// How many times more often than others a unit may fail: a plan draws that many times as many
/// faults as it keeps.
const FACTOR_MAX: f64 = 1000.0;
/// By so much may shares and chances miss 1, as they are written with a few digits.
const SUM_SLACK: f64 = 0.001;

/// What is wrong, and what to do about it.
struct Wrong {
    message: String,
    hint: String,
}

type Checked<T> = Result<T, Wrong>;

fn wrong<T>(message: impl Into<String>, hint: impl Into<String>) -> Checked<T> {
    Err(Wrong { message: message.into(), hint: hint.into() })
}

/// Makes the profile; the error stands at the entry that is wrong.
pub fn profile(table: ProfileTable, source: &Source<'_>) -> Result<Profile, FileError> {
    let at_entry = |list: &str, index: usize, wrong: Wrong| {
        source.error_at_entry(list, Some(index), wrong.message, Some(wrong.hint))
    };
    let at_key =
        |key: &str, wrong: Wrong| source.error_at_key(key, wrong.message, Some(wrong.hint));
    let lists: [(&str, Vec<&str>); 4] = [
        ("causes", table.causes.iter().map(|entry| entry.name.as_str()).collect()),
        ("detections", table.detections.iter().map(|entry| entry.name.as_str()).collect()),
        ("repairs", table.repairs.iter().map(|entry| entry.name.as_str()).collect()),
        ("lots", table.lots.iter().map(|entry| entry.name.as_str()).collect()),
    ];
    for (list, names) in &lists {
        for index in 0..names.len() {
            unique(names, index).map_err(|wrong| at_entry(list, index, wrong))?;
        }
    }
    few(table.causes.len(), CAUSES_MAX, "causes").map_err(|wrong| at_key("causes", wrong))?;
    few(table.lots.len(), LOTS_MAX, "lots").map_err(|wrong| at_key("lots", wrong))?;
    for (index, entry) in table.detections.iter().enumerate() {
        detection(entry).map_err(|wrong| at_entry("detections", index, wrong))?;
    }
    for (index, entry) in table.repairs.iter().enumerate() {
        repair(entry).map_err(|wrong| at_entry("repairs", index, wrong))?;
    }
    if let Some(total) = &table.total {
        total_rate(total).map_err(|wrong| at_key("total", wrong))?;
        shares(&table.causes).map_err(|wrong| at_key("total", wrong))?;
    }
    let mut causes = Vec::with_capacity(table.causes.len());
    for (index, entry) in table.causes.iter().enumerate() {
        causes.push(cause(entry, &table).map_err(|wrong| at_entry("causes", index, wrong))?);
    }
    let lemons = match &table.lemons {
        Some(entry) => Some(lemons(entry).map_err(|wrong| at_key("lemons", wrong))?),
        None => None,
    };
    let mut lots = Vec::with_capacity(table.lots.len());
    for (index, entry) in table.lots.iter().enumerate() {
        lots.push(lot(entry, &causes).map_err(|wrong| at_entry("lots", index, wrong))?);
    }
    Ok(Profile { about: table.about, notes: table.notes, lemons, lots, causes })
}

fn unique(names: &[&str], index: usize) -> Checked<()> {
    let name = names[index];
    if name.trim().is_empty() {
        return wrong("a name is empty", "give it a name that says what it is");
    }
    if names[..index].contains(&name) {
        return wrong(format!("two entries are named `{name}`"), "rename one of them");
    }
    Ok(())
}

fn few(count: usize, max: usize, what: &str) -> Checked<()> {
    if count > max {
        return wrong(format!("{count} {what}; at most {max}"), "put some of them together");
    }
    Ok(())
}

fn sourced(source: &str) -> Checked<String> {
    if source.trim().is_empty() {
        return wrong(
            "the source is empty",
            "name the document, or write `assumed: ` and the reason",
        );
    }
    Ok(source.to_string())
}

fn within(what: &str, value: f64, low: f64, high: f64) -> Checked<f64> {
    if (low..=high).contains(&value) {
        return Ok(value);
    }
    wrong(format!("{what} is {value}"), format!("a number from {low} to {high}"))
}

fn delay(delay: &Delay) -> Checked<Delay> {
    delay.check().map_err(|(message, hint)| Wrong { message, hint })?;
    Ok(*delay)
}

fn detection(entry: &DetectionTable) -> Checked<Detect> {
    Ok(Detect {
        after: delay(&entry.after)?,
        seen: within("`seen`", entry.seen, 0.0, 1.0)?,
        source: sourced(&entry.source)?,
    })
}

fn repair(entry: &RepairTable) -> Checked<Vec<RepairRule>> {
    let source = sourced(&entry.source)?;
    if entry.by.is_empty() {
        return wrong("nothing mends it", "name in `by` at least one kind of repair");
    }
    let mut rules = Vec::new();
    for rule in &entry.by {
        let chance = within("`chance`", rule.chance, 0.0, 1.0)?;
        let takes = match &rule.takes {
            Some(takes) => delay(takes)?,
            None if !rule.kind.takes_node_out() => Delay::ZERO,
            None => {
                return wrong(
                    format!("a {} takes time", rule.kind),
                    "say how long: `takes = { fixed = \"10m\" }`",
                );
            }
        };
        rules.push(RepairRule { kind: rule.kind, chance, takes, source: source.clone() });
    }
    let sum: f64 = rules.iter().map(|rule| rule.chance).sum();
    if (sum - 1.0).abs() > SUM_SLACK {
        return wrong(
            format!("the chances add up to {sum:.3}"),
            "they are of what mends it at last, so they add up to 1",
        );
    }
    Ok(rules)
}

fn shares(causes: &[CauseTable]) -> Checked<()> {
    let shares: Vec<f64> = causes.iter().filter_map(|cause| cause.share).collect();
    let sum: f64 = shares.iter().sum();
    if shares.is_empty() {
        return wrong("no cause has a share of it", "give causes `share`, or leave [total] out");
    }
    if (sum - 1.0).abs() > SUM_SLACK {
        return wrong(
            format!("the shares of the causes add up to {sum:.3}"),
            "they are shares of [total], so they add up to 1",
        );
    }
    Ok(())
}

/// Events per node and day.
fn total_rate(total: &TotalTable) -> Checked<f64> {
    sourced(&total.source)?;
    let rates = given_rates(total.rate, total.mtbf.map(|span| span.0), total.observed.as_ref())?;
    within("`gpus_per_node`", f64::from(total.gpus_per_node), 1.0, 64.0)?;
    match rates[..] {
        [rate] => within("the rate in events per unit and day", rate, 0.0, PER_DAY_MAX),
        _ => wrong(
            format!("[total] has {} rates", rates.len()),
            "exactly one of `rate`, `mtbf` and `observed`",
        ),
    }
}

/// Those that are given, in events per unit and day.
fn given_rates(
    rate: Option<f64>,
    mtbf: Option<Millis>,
    observed: Option<&ObservedTable>,
) -> Checked<Vec<f64>> {
    let mut rates: Vec<f64> = rate.map(|rate| rate / 1000.0).into_iter().collect();
    if let Some(mtbf) = mtbf {
        if mtbf == Millis::ZERO {
            return wrong("the mtbf is nothing", "write the mean time between two events");
        }
        rates.push(1.0 / days(mtbf));
    }
    if let Some(observed) = observed {
        within("`events`", observed.events, 0.0, 1e12)?;
        within("`units`", observed.units, 1.0, 1e12)?;
        if observed.over.0 == Millis::ZERO {
            return wrong("nothing can be observed in no time", "write `over = \"54d\"`");
        }
        rates.push(observed.events / (observed.units * days(observed.over.0)));
    }
    Ok(rates)
}

fn days(span: Millis) -> f64 {
    span.0 as f64 / 86_400_000.0
}

fn cause(entry: &CauseTable, table: &ProfileTable) -> Checked<Cause> {
    let source = sourced(&entry.source)?;
    let reach = entry.reach.unwrap_or(entry.per);
    if !entry.per.may_reach(reach) {
        return wrong(
            format!("a {} does not reach a {reach}", entry.per),
            "a gpu or link reaches its node; a node its rack, leaf, pdu, spine or site; \
             a leaf its spine; a rack, leaf, pdu or spine its site",
        );
    }
    let effect = effect(&entry.effect)?;
    let detect = match &entry.detect {
        Some(name) => {
            let known = table.detections.iter();
            let found = known.clone().find(|known| known.name == *name);
            let found = named(name, found, known.map(|known| known.name.as_str()), "detections")?;
            Some(detection(found)?)
        }
        None if effect.needs_no_repair() => None,
        None => {
            return wrong(
                format!("`{}` does not say how it is noticed", entry.name),
                "add `detect = \"NAME\"` and a table [[detections]] of that name",
            );
        }
    };
    let repair = match &entry.repair {
        Some(_) if effect.needs_no_repair() => {
            return wrong(
                format!("a {} needs no repair", effect.name()),
                "leave `repair` out: its effect says how long it takes",
            );
        }
        Some(name) => {
            let known = table.repairs.iter();
            let found = known.clone().find(|known| known.name == *name);
            repair(named(name, found, known.map(|known| known.name.as_str()), "repairs")?)?
        }
        None if effect.needs_no_repair() => Vec::new(),
        None => {
            return wrong(
                format!("`{}` does not say what mends it", entry.name),
                "add `repair = \"NAME\"` and a table [[repairs]] of that name",
            );
        }
    };
    let recurs = match &entry.recurs {
        Some(_) if repair.is_empty() => {
            return wrong(
                "`recurs` is what comes again after a repair, and there is none",
                "leave it out, or raise the rate",
            );
        }
        Some(recurs) if recurs.within.0 == Millis::ZERO => {
            return wrong("it recurs within no time", "write `within = \"7d\"`");
        }
        Some(recurs) => Some(Recurs {
            chance: within("the chance of `recurs`", recurs.chance, 0.0, 0.9)?,
            within: recurs.within.0,
        }),
        None => None,
    };
    let hazard = hazard(entry, table)?;
    let (name, per) = (entry.name.clone(), entry.per);
    Ok(Cause { name, source, per, reach, hazard, effect, detect, repair, recurs })
}

fn named<'t, T>(
    name: &str,
    found: Option<&'t T>,
    mut known: impl Iterator<Item = &'t str>,
    list: &str,
) -> Checked<&'t T> {
    let Some(found) = found else {
        let hint = match nearest(name, known.by_ref()) {
            Some(best) => format!("did you mean `{best}`?"),
            None => format!("add a table [[{list}]] with `name = \"{name}\"`"),
        };
        return wrong(format!("there is no `{name}` in [[{list}]]"), hint);
    };
    Ok(found)
}

fn hazard(entry: &CauseTable, table: &ProfileTable) -> Checked<Hazard> {
    let mtbf = entry.mtbf.map(|span| span.0);
    let mut rates = given_rates(entry.rate, mtbf, entry.observed.as_ref())?;
    if let Some(share) = entry.share {
        rates.push(share_of_total(share, entry.per, table)?);
    }
    let shape = shape(&entry.shape)?;
    let per_day = match (shape, &rates[..]) {
        (Shape::Wear { .. }, []) => 0.0,
        (Shape::Wear { .. }, _) => {
            return wrong(
                "`wear` has its rate from `k` and `life`",
                "leave `rate`, `mtbf`, `observed` and `share` out",
            );
        }
        (_, [rate]) => *rate,
        (_, rates) => {
            return wrong(
                format!("`{}` has {} rates", entry.name, rates.len()),
                "exactly one of `rate`, `mtbf`, `observed` and `share`",
            );
        }
    };
    within("the rate in events per unit and day", per_day, 0.0, PER_DAY_MAX)?;
    let age = entry.age.or(table.age).map_or(Millis::ZERO, |span| span.0);
    Ok(Hazard { per_day, shape, age_days: days(age) })
}

fn share_of_total(share: f64, per: Unit, table: &ProfileTable) -> Checked<f64> {
    within("`share`", share, 0.0, 1.0)?;
    let Some(total) = &table.total else {
        return wrong("a share of what?", "add a table [total] with the rate of all causes");
    };
    let per_node = match (per, total.rails_per_node) {
        (Unit::Node, _) => 1.0,
        (Unit::Gpu, _) => f64::from(total.gpus_per_node),
        (Unit::Link, Some(rails)) if rails > 0 => f64::from(rails),
        (Unit::Link, _) => {
            return wrong("links of how many rails?", "add `rails_per_node` to [total]");
        }
        _ => {
            return wrong(
                format!("[total] is of nodes, and a {per} is more than that"),
                "give this cause a `rate` of its own",
            );
        }
    };
    Ok(total_rate(total)? * share / per_node)
}

fn shape(shape: &ShapeTable) -> Checked<Shape> {
    match *shape {
        ShapeTable::Constant => Ok(Shape::Constant),
        ShapeTable::Infant { factor, time_constant } => {
            if time_constant.0 == Millis::ZERO {
                return wrong("a time constant of nothing", "write `time_constant = \"30d\"`");
            }
            Ok(Shape::Infant {
                factor: within("the factor of `infant`", factor, 1.0, FACTOR_MAX)?,
                time_constant_days: days(time_constant.0),
            })
        }
        ShapeTable::Wear { k, life } => {
            if life.0 == Millis::ZERO {
                return wrong("a life of nothing", "write `life = \"1800d\"`");
            }
            if k <= 1.0 {
                return wrong(
                    format!("`k` is {k}: nothing wears out so"),
                    "a k above 1; `shape = \"constant\"` is the k of 1",
                );
            }
            Ok(Shape::Wear { k: within("`k`", k, 1.0, 10.0)?, life_days: days(life.0) })
        }
    }
}

fn effect(effect: &EffectTable) -> Checked<EffectRule> {
    Ok(match effect {
        EffectTable::Crash(exit) => {
            match exit {
                Exit::Code(0) => {
                    return wrong("exit status 0 is no crash", "write `crash = { code = 1 }`");
                }
                Exit::Signal(number) if !(1..=64).contains(number) => {
                    return wrong(
                        format!("there is no signal {number}"),
                        "6 is SIGABRT, 9 SIGKILL",
                    );
                }
                Exit::Lost | Exit::NotStarted(_) => {
                    return wrong(
                        "a rank that crashes ends by a code, a signal or for its memory",
                        "write `crash = { code = 1 }`; `node_down` takes ranks without a trace",
                    );
                }
                Exit::Code(_) | Exit::Signal(_) | Exit::OutOfMemory => {}
            }
            EffectRule::Crash(exit.clone())
        }
        EffectTable::NodeDown => EffectRule::NodeDown,
        EffectTable::Hang => EffectRule::Hang,
        EffectTable::Corrupt => EffectRule::Corrupt,
        EffectTable::Slow { factor: [low, high], lasts } => {
            within("the factor of `slow`", *low, 1.0, 100.0)?;
            within("the factor of `slow`", *high, *low, 100.0)?;
            let lasts = lasts.as_ref().map(delay).transpose()?;
            EffectRule::Slow { factor: [*low, *high], lasts }
        }
        EffectTable::LinkFlap { pause } => EffectRule::LinkFlap { pause: delay(pause)? },
        EffectTable::Maintenance { notice, takes } => {
            EffectRule::Maintenance { notice: notice.0, takes: delay(takes)? }
        }
    })
}

fn lemons(entry: &LemonsTable) -> Checked<Lemons> {
    Ok(Lemons {
        share: within("the share of lemons", entry.share, 0.0, 1.0)?,
        factor: within("the factor of lemons", entry.factor, 1.0, FACTOR_MAX)?,
        source: sourced(&entry.source)?,
    })
}

fn lot(entry: &LotTable, causes: &[Cause]) -> Checked<Lot> {
    let by = entry.by.unwrap_or(Unit::Rack);
    if !matches!(by, Unit::Node | Unit::Rack) {
        return wrong(
            format!("a lot is not spread by {by}"),
            "`by` is \"rack\" (whole racks, the default) or \"node\"",
        );
    }
    let mut indices = Vec::new();
    for name in &entry.causes {
        let found = causes.iter().position(|cause| cause.name == *name);
        let known = causes.iter().map(|cause| cause.name.as_str());
        named(name, found.map(|index| &causes[index]), known, "causes")?;
        let index = found.expect("`named` has just found it");
        if !causes[index].per.is_in_node() {
            return wrong(
                format!("`{name}` is of a {}, and a lot is of nodes", causes[index].per),
                "a lot is of causes per gpu, link or node",
            );
        }
        indices.push(index);
    }
    if indices.is_empty() {
        return wrong("a lot of no cause", "name what its nodes fail of in `causes`");
    }
    indices.sort_unstable();
    indices.dedup();
    Ok(Lot {
        name: entry.name.clone(),
        share: within("the share of a lot", entry.share, 0.0, 1.0)?,
        factor: within("the factor of a lot", entry.factor, 1.0, FACTOR_MAX)?,
        by,
        causes: indices,
        source: sourced(&entry.source)?,
    })
}
