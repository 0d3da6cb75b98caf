//! Which ranks of a gang are slower than their peers, from one window: robust, in whole numbers.
//!
//! Medians, and distances from them counted in medians of such distances, are not moved by a few
//! ranks that are far off. Where all ranks make the same steps, a straggler is who waits least *and*
//! has something to show for it: more work, or being kept from it, or coming last. A rank that has
//! only more to do beside its training (it writes the log, it feeds others) waits as long as they do.
//! Ranks that tell themselves what they wait for others need show nothing else: it says nothing of other waits.
//! Where ranks are slow on several nodes at once, it is not one machine but the shape of the program,
//! and nobody is named; but in a gang of hundreds of nodes two may well be slow at once, and no program has
//! parts so uneven and so few. Then one of them is named, and the next once that is mended.

use lindos_model::Rank;
use lindos_model::pace::{SlowBy, SlowSign};

/// A rank that waits less than the median by less than this, in thousandths of the time, costs the
/// others too little to be told from chance.
const WAITS_LESS: u32 = 150;
/// … and no more than half of what they wait.
const WAITS_PART: u32 = 2;
/// Medians of distances by which it has to be away.
const AWAY: u32 = 6;
/// What it has to show for it, in thousandths of the time.
const PRESSED_MORE: u32 = 100;
/// Lateness, in thousandths of the time, summed over the steps in it.
const LATE_MORE: u32 = 50;
/// One whose own steps are fewer is slow when it makes no more than this, in percent.
const PACE_MOST: u64 = 80;
/// … and so many fewer: one or two are where the window was cut.
const STEPS_FEWER: u32 = 3;

/// Of so many nodes one may be slow by chance while another is. Fewer would be a stage of a pipeline: the one
/// with the loss has more to do in every replica.
const NODES_FOR_EACH: usize = 200;

/// What one rank did in a window. Parts are thousandths of its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    pub rank: Rank,
    /// Its node's number in the gang.
    pub member: u32,
    /// CPU time of all its processes: may be far above 1,000.
    pub ran: u32,
    pub delayed: u32,
    pub held: u32,
    /// Its main thread sleeps: it waits, for others or for whatever else.
    pub sleeps: u32,
    /// For others, by its own word; more than 1,000 where it waits for several at once.
    pub told_waits: Option<u32>,
    pub late: u32,
    /// That it told itself.
    pub steps: Option<u32>,
    /// In 1,000 seconds.
    pub rate: u64,
}

/// What every rank has told itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByWord {
    /// Its own steps.
    pub steps: bool,
    /// What it waits for others.
    pub waits: bool,
    /// Most tell what they wait, and not all have told something newer.
    pub waits_untold: bool,
}

impl Measure {
    fn waits(&self, by: ByWord) -> u32 {
        if by.waits { self.told_waits.unwrap_or(0) } else { self.sleeps }
    }

    fn pressed(&self) -> u32 {
        self.ran.saturating_add(self.delayed).saturating_add(self.held)
    }
}

/// Ranks of one node that are slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    /// The slowest.
    pub rank: Rank,
    pub member: u32,
    pub ranks: u32,
    pub sign: SlowSign,
    pub by: SlowBy,
    pub own: u32,
    pub peers: u32,
    pub cost_permille: u32,
}

/// The slow ones of one node, if they are of one or of few: then those of `before`, if they still are, or else
/// of the slowest. In the order of the ranks.
pub fn slowest(all: &[Measure], by: ByWord, before: Option<u32>) -> Option<Slow> {
    if by.steps
        && let Some(slow) = fewer_steps(all, before)
    {
        return Some(slow);
    }
    waits_least(all, by, before)
}

fn waits_least(all: &[Measure], by: ByWord, before: Option<u32>) -> Option<Slow> {
    let (waits, apart) = middle(all.iter().map(|it| it.waits(by)), Half::Upper);
    let (pressed, pressed_apart) = middle(all.iter().map(Measure::pressed), Half::Lower);
    let (late, _) = middle(all.iter().map(|it| it.late), Half::Lower);
    let margin = WAITS_LESS.max(apart.saturating_mul(AWAY));
    let pressed_margin = PRESSED_MORE.max(pressed_apart.saturating_mul(AWAY / 2));
    let is_slow = |it: &&Measure| {
        let own = it.waits(by);
        let waits_less = own + margin <= waits;
        // Whoever tells what it waits tells what messages take as well, and nothing else.
        if by.waits {
            return waits_less;
        }
        let is_pressed = it.pressed() >= pressed.saturating_add(pressed_margin);
        waits_less
            && own * WAITS_PART <= waits
            && (is_pressed || it.late >= late.saturating_add(LATE_MORE))
    };
    let slow: Vec<&Measure> = all.iter().filter(is_slow).collect();
    let (worst, ranks) = of_one_node(slow, all, before, |it| u64::from(it.waits(by)))?;
    Some(Slow {
        rank: worst.rank,
        member: worst.member,
        ranks,
        sign: SlowSign::WaitsLeast,
        by: reason(all, worst),
        own: worst.waits(by),
        peers: waits,
        cost_permille: (waits - worst.waits(by)).min(1000),
    })
}

fn fewer_steps(all: &[Measure], before: Option<u32>) -> Option<Slow> {
    let small = |rate: u64| u32::try_from(rate).unwrap_or(u32::MAX);
    let (rate, apart) = middle(all.iter().map(|it| small(it.rate)), Half::Upper);
    let (steps, _) = middle(all.iter().map(|it| it.steps.unwrap_or(0)), Half::Upper);
    let is_slow = |it: &&Measure| {
        let own = small(it.rate);
        own.saturating_add(apart.saturating_mul(AWAY)) <= rate
            && it.rate * 100 <= u64::from(rate) * PACE_MOST
            && it.steps.unwrap_or(0) + STEPS_FEWER <= steps
    };
    let slow: Vec<&Measure> = all.iter().filter(is_slow).collect();
    let (worst, ranks) = of_one_node(slow, all, before, |it| it.rate)?;
    let own = small(worst.rate);
    let cost = u64::from(rate - own) * 1000 / u64::from(rate.max(1));
    Some(Slow {
        rank: worst.rank,
        member: worst.member,
        ranks,
        sign: SlowSign::FewerSteps,
        by: reason(all, worst),
        own,
        peers: rate,
        cost_permille: small(cost),
    })
}

/// The slowest rank of the node that is named and how many of its ranks are slow, if few nodes are, and no
/// more ranks than the others.
fn of_one_node<'m>(
    mut slow: Vec<&'m Measure>,
    all: &[Measure],
    before: Option<u32>,
    pace: impl Fn(&Measure) -> u64,
) -> Option<(&'m Measure, u32)> {
    let nodes = |ranks: &mut dyn Iterator<Item = u32>| {
        let mut last = None;
        ranks.filter(|&member| last.replace(member) != Some(member)).count()
    };
    let slow_nodes = nodes(&mut slow.iter().map(|it| it.member));
    let all_nodes = nodes(&mut all.iter().map(|it| it.member));
    if slow_nodes > (all_nodes / NODES_FOR_EACH).max(1) || slow.len() * 2 > all.len() {
        return None;
    }
    let slowest = slow.iter().min_by_key(|it| (pace(it), it.rank))?.member;
    let named = before.filter(|&before| slow.iter().any(|it| it.member == before));
    slow.retain(|it| it.member == named.unwrap_or(slowest));
    let worst = *slow.iter().min_by_key(|it| (pace(it), it.rank))?;
    Some((worst, slow.len() as u32))
}

/// What it does more of than the others.
fn reason(all: &[Measure], slow: &Measure) -> SlowBy {
    let more = |part: fn(&Measure) -> u32| {
        let (usual, _) = middle(all.iter().map(part), Half::Lower);
        part(slow).saturating_sub(usual)
    };
    let (delayed, held, ran) = (more(|it| it.delayed), more(|it| it.held), more(|it| it.ran));
    let most = delayed.max(held).max(ran);
    if most < PRESSED_MORE / 2 {
        SlowBy::Unknown
    } else if most == held {
        SlowBy::Held
    } else if most == delayed {
        SlowBy::WantingProcessor
    } else {
        SlowBy::Working
    }
}

/// Which of the two in the middle of an even number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Lower,
    Upper,
}

/// The median, and the lower median of the distances from it.
fn middle(values: impl Iterator<Item = u32>, half: Half) -> (u32, u32) {
    let mut values: Vec<u32> = values.collect();
    let median = pick(&mut values, half);
    let mut apart: Vec<u32> = values.iter().map(|value| value.abs_diff(median)).collect();
    (median, pick(&mut apart, Half::Lower))
}

fn pick(values: &mut [u32], half: Half) -> u32 {
    let Some(last) = values.len().checked_sub(1) else { return 0 };
    let index = if half == Half::Upper { values.len() / 2 } else { last / 2 };
    *values.select_nth_unstable(index).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All make the same steps, and wait for so long; the rest of the time they compute.
    fn gang(waits: &[u32], per_node: u32) -> Vec<Measure> {
        let measure = |(index, &waits): (usize, &u32)| Measure {
            rank: Rank(index as u32),
            member: index as u32 / per_node,
            ran: 1000 - waits,
            delayed: 0,
            held: 0,
            sleeps: waits,
            told_waits: None,
            late: 0,
            steps: Some(50),
            rate: 3333,
        };
        waits.iter().enumerate().map(measure).collect()
    }

    const STEPS: ByWord = ByWord { steps: true, waits: false, waits_untold: false };
    const WAITS: ByWord = ByWord { waits: true, ..STEPS };

    fn named(all: &[Measure]) -> Option<(u32, u32)> {
        slowest(all, STEPS, None).map(|slow| (slow.rank.0, slow.ranks))
    }

    #[test]
    fn the_one_that_waits_least_is_named() {
        let slow = slowest(&gang(&[450, 470, 20, 460], 1), STEPS, None).unwrap();
        assert_eq!((slow.rank, slow.ranks, slow.sign), (Rank(2), 1, SlowSign::WaitsLeast));
        assert_eq!((slow.own, slow.peers, slow.cost_permille), (20, 460, 440));
        assert_eq!(slow.by, SlowBy::Working);
        assert_eq!(named(&gang(&[450, 20], 1)), Some((1, 1)), "also of two");
    }

    #[test]
    fn what_it_does_instead_of_waiting_is_said() {
        let mut all = gang(&[400, 400, 10, 400], 1);
        (all[2].ran, all[2].delayed) = (500, 490);
        assert_eq!(slowest(&all, STEPS, None).unwrap().by, SlowBy::WantingProcessor);
        (all[2].delayed, all[2].held) = (0, 490);
        assert_eq!(slowest(&all, STEPS, None).unwrap().by, SlowBy::Held);
        (all[2].held, all[2].late) = (0, 60);
        let slow = slowest(&all, STEPS, None).unwrap();
        assert_eq!(slow.by, SlowBy::Unknown, "it only comes last");
        all[2].late = 0;
        assert_eq!(slowest(&all, STEPS, None), None, "it waits less, and nothing shows why");
    }

    #[test]
    fn a_node_whose_ranks_are_all_slow_is_named_by_the_slowest_of_them() {
        assert_eq!(named(&gang(&[300, 310, 20, 15, 305, 290, 300, 310], 2)), Some((3, 2)));
        assert_eq!(named(&gang(&[20, 15, 305, 290], 2)), Some((1, 2)), "half of them");
    }

    #[test]
    fn who_is_slow_on_many_nodes_is_the_program() {
        // Stages of a pipeline: every second node has more to do.
        assert_eq!(named(&gang(&[300, 20, 310, 20, 300, 25, 290, 300], 1)), None);
        assert_eq!(named(&gang(&[0, 0, 300, 0], 1)), None, "one waits for all others");
    }

    #[test]
    fn of_few_nodes_among_hundreds_one_is_named_and_stays_so_until_it_is_mended() {
        let mut waits = vec![450; 2 * 400];
        (waits[10], waits[11], waits[500]) = (30, 40, 20);
        let named = |waits: &[u32], before| {
            slowest(&gang(waits, 2), STEPS, before).map(|slow| (slow.rank.0, slow.ranks))
        };
        assert_eq!(named(&waits, None), Some((500, 1)), "the slowest");
        assert_eq!(named(&waits, Some(5)), Some((10, 2)), "who was named before");
        assert_eq!(named(&waits, Some(7)), Some((500, 1)), "who was named before is not slow");
        waits[700] = 25;
        assert_eq!(named(&waits, None), None, "three of 400 nodes may be a part of the program");
    }

    #[test]
    fn who_only_has_more_to_do_beside_is_none() {
        let mut all = gang(&[300, 310, 290, 300], 1);
        all[0].ran += 800;
        assert_eq!(named(&all), None, "it waits as long as the others");
        let spinning = gang(&[0, 0, 0, 0], 1);
        assert_eq!(named(&spinning), None, "nobody can tell who of them waits");
    }

    #[test]
    fn of_ranks_that_spin_and_tell_what_they_wait_the_one_that_waits_least_is_named() {
        let by = WAITS;
        let mut all = gang(&[0; 4], 1);
        let told = |all: &mut [Measure], waits: [u32; 4]| {
            all.iter_mut().zip(waits).for_each(|(it, waits)| it.told_waits = Some(waits));
        };
        // Messages take 30 % of the time, also where all the others are there already.
        told(&mut all, [500, 510, 300, 505]);
        let slow = slowest(&all, by, None).unwrap();
        assert_eq!(
            (slow.rank, slow.own, slow.peers, slow.by),
            (Rank(2), 300, 505, SlowBy::Unknown)
        );
        assert_eq!(slowest(&all, STEPS, None), None, "they all seem to work");
        all[2].delayed = 200;
        assert_eq!(slowest(&all, by, None).unwrap().by, SlowBy::WantingProcessor);
        told(&mut all, [500, 510, 400, 505]);
        assert_eq!(slowest(&all, by, None), None);
        told(&mut all, [500, 300, 290, 505]);
        assert_eq!(slowest(&all, by, None), None, "of two nodes");
    }

    #[test]
    fn a_wide_spread_names_nobody() {
        assert_eq!(named(&gang(&[500, 420, 250, 100, 330, 180], 1)), None);
    }

    #[test]
    fn of_independent_ranks_the_one_with_fewer_steps_is_named() {
        let mut all = gang(&[100; 6], 2);
        (all[4].steps, all[4].rate) = (Some(30), 2000);
        let slow = slowest(&all, STEPS, None).unwrap();
        assert_eq!((slow.rank, slow.sign), (Rank(4), SlowSign::FewerSteps));
        assert_eq!((slow.own, slow.peers, slow.cost_permille), (2000, 3333, 399));
        assert_eq!(
            slowest(&all, ByWord::default(), None),
            None,
            "where only some tell steps, they do not compare"
        );
        (all[4].steps, all[4].rate) = (Some(48), 2400);
        assert_eq!(named(&all), None, "cut at the edge of the window");
    }

    proptest! {
        #[test]
        fn jitter_names_nobody_and_a_straggler_in_it_is_named(
            waits in prop::collection::vec(180u32..280, 4..64),
            who in 0usize..64,
        ) {
            let mut all = gang(&waits, 1);
            prop_assert_eq!(named(&all), None);
            let who = who % all.len();
            let wide = all.iter().map(|it| it.sleeps).max().unwrap() + 600;
            for it in &mut all {
                (it.sleeps, it.ran) = (it.sleeps + 600, it.ran - 600);
            }
            (all[who].sleeps, all[who].ran) = (10, 990);
            prop_assert!(wide <= 1000);
            prop_assert_eq!(named(&all), Some((who as u32, 1)));
        }

        #[test]
        fn nothing_makes_it_fall(
            numbers in prop::collection::vec((any::<u32>(), any::<u32>(), 0u32..9, any::<u32>()), 0..20),
        ) {
            let measure = |(index, &(ran, late, member, steps)): (usize, &(u32, u32, u32, u32))| Measure {
                rank: Rank(index as u32),
                member,
                ran,
                delayed: ran % 1001,
                held: late % 1001,
                sleeps: steps % 1001,
                told_waits: Some(ran % 100_001),
                late,
                steps: Some(steps / 2),
                rate: u64::from(steps),
            };
            let all: Vec<Measure> = numbers.iter().enumerate().map(measure).collect();
            for by in [STEPS, WAITS] {
                if let Some(slow) = slowest(&all, by, None) {
                    prop_assert!(slow.ranks >= 1 && slow.cost_permille <= 1000);
                }
            }
        }
    }
}
