//! What each team holds and has used, and who of them is next.
//!
//! Usage is decayed: GPU-time counts half as much after each half-life. All of it is integer
//! arithmetic, so that every replay comes to the same order.

use super::claims::Seat;
use lindos_model::policy::Team;
use lindos_model::{Millis, Policy, Time};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Number of a team, in the order in which they were first named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TeamId(pub u32);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub name: String,
    /// GPUs of its gangs now, with those of the teams below it.
    pub held: u64,
    /// Decayed GPU-milliseconds as of `at`, with those of the teams below it, times 2^10: an account
    /// may change many times in a millisecond, and no part of it must be lost each time.
    used: u64,
    at: Time,
    /// Jobs that are remembered and name it.
    jobs: u32,
}

/// What the policy says of a team.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct Rule {
    parent: Option<TeamId>,
    share: u64,
    /// What the shares of its parts come to together; `None` when it has no parts.
    parts: Option<u64>,
    limit: Option<u64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Teams {
    accounts: Vec<Account>,
    by_name: BTreeMap<String, TeamId>,
    /// Numbers of teams that are not known any more.
    unused: Vec<TeamId>,
    /// With so many teams known, those that nothing tells of are forgotten.
    sweep_at: usize,
    /// See [`Teams::rule_by`].
    #[serde(skip)]
    rules: Vec<Rule>,
    #[serde(skip)]
    half_life: Millis,
}

/// A limit that a job would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverLimit {
    pub team: TeamId,
    pub limit: u64,
    /// With what is promised.
    pub held: u64,
}

/// GPUs that are promised to teams, each with those of the teams below it.
#[derive(Clone, Debug, Default)]
pub struct Promised(BTreeMap<TeamId, u64>);

impl Promised {
    pub fn add(&mut self, teams: &Teams, team: TeamId, gpus: u64) {
        for above in teams.upwards(team) {
            *self.0.entry(above).or_default() += gpus;
        }
    }

    pub fn take_back(&mut self, teams: &Teams, team: TeamId, gpus: u64) {
        for above in teams.upwards(team) {
            *self.0.entry(above).or_default() -= gpus;
        }
    }

    fn to(&self, team: TeamId) -> u64 {
        self.0.get(&team).copied().unwrap_or(0)
    }
}

/// Where a team stands in the order: that of its topmost team first, then of the one below it, …
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing(Vec<Level>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Level {
    /// Whether the job would take it above its share.
    borrows: bool,
    used: u128,
    weight: u64,
}

impl Ord for Level {
    fn cmp(&self, other: &Self) -> Ordering {
        // Saturating: a policy may hold any numbers.
        let mine = self.used.saturating_mul(u128::from(other.weight));
        let theirs = other.used.saturating_mul(u128::from(self.weight));
        self.borrows.cmp(&other.borrows).then(mine.cmp(&theirs))
    }
}

impl PartialOrd for Level {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Standing {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Standing {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Standing {
    /// Where every team stands when teams do not matter.
    pub fn equal() -> Standing {
        Standing(Vec::new())
    }
}

impl Teams {
    /// Takes the rules of a policy: when it begins to hold, and after a snapshot was read.
    pub fn rule_by(&mut self, policy: &Policy) {
        self.half_life = Millis(policy.usage_half_life_ms.max(1));
        for team in &policy.teams {
            self.id(&team.name);
        }
        let given: BTreeMap<&str, &Team> =
            policy.teams.iter().map(|team| (team.name.as_str(), team)).collect();
        self.rules = self
            .accounts
            .iter()
            .map(|account| match given.get(account.name.as_str()) {
                None => Rule::default(),
                Some(team) => Rule {
                    // Jobs of no team have an account too, and no team is a part of that.
                    parent: given
                        .get(team.parent.as_str())
                        .and_then(|above| self.find(&above.name)),
                    share: team.share,
                    parts: None,
                    limit: team.limit,
                },
            })
            .collect();
        // A ring of teams is refused at the edge; here it must only not go round for ever.
        for index in 0..self.rules.len() {
            if self.upwards(TeamId(index as u32)).count() > self.rules.len() {
                self.rules[index].parent = None;
            }
        }
        for index in 0..self.rules.len() {
            let Rule { parent, share, .. } = self.rules[index];
            if let Some(parent) = parent {
                let parts = &mut self.rules[parent.0 as usize].parts;
                *parts = Some(parts.unwrap_or(0).saturating_add(share));
            }
        }
    }

    /// The team of this name, known from now on.
    pub fn id(&mut self, name: &str) -> TeamId {
        if let Some(&id) = self.by_name.get(name) {
            return id;
        }
        let (name, at) = (name.to_string(), Time::ZERO);
        let account = Account { name: name.clone(), held: 0, used: 0, at, jobs: 0 };
        let next = TeamId(self.accounts.len() as u32);
        let id = self.unused.pop().unwrap_or(next);
        if id == next {
            self.accounts.push(account);
            self.rules.push(Rule::default());
        } else {
            self.accounts[id.0 as usize] = account;
        }
        self.by_name.insert(name, id);
        id
    }

    /// A job of the team is remembered from now on. Names that the policy does not have are no more
    /// than jobs have made of them, so now and then those are forgotten that nothing tells of.
    pub fn remember(&mut self, team: TeamId, now: Time) {
        self.accounts[team.0 as usize].jobs += 1;
        if self.by_name.len() <= self.sweep_at.max(TEAMS_KEPT) {
            return;
        }
        let is_idle = |id: TeamId| {
            let account = self.account(id);
            let is_ruled = self.rules[id.0 as usize] != Rule::default();
            !is_ruled && account.jobs == 0 && account.held == 0 && self.used(id, now) < USED_LITTLE
        };
        let idle: Vec<TeamId> = self.by_name.values().copied().filter(|&id| is_idle(id)).collect();
        for id in idle {
            self.by_name.remove(&self.accounts[id.0 as usize].name);
            self.accounts[id.0 as usize] = Account::default();
            self.unused.push(id);
        }
        self.sweep_at = self.by_name.len() * 2;
    }

    /// A job of the team is forgotten.
    pub fn forget(&mut self, team: TeamId) {
        self.accounts[team.0 as usize].jobs -= 1;
    }

    pub fn find(&self, name: &str) -> Option<TeamId> {
        self.by_name.get(name).copied()
    }

    pub fn account(&self, team: TeamId) -> &Account {
        &self.accounts[team.0 as usize]
    }

    /// By number, with those that are not known any more.
    pub fn every(&self) -> impl Iterator<Item = (TeamId, &Account)> {
        self.accounts.iter().enumerate().map(|(index, account)| (TeamId(index as u32), account))
    }

    pub fn accounts(&self) -> impl Iterator<Item = (TeamId, &Account)> {
        self.every().filter(|&(id, account)| self.find(&account.name) == Some(id))
    }

    /// GPUs that the team can have back whenever it wants them.
    pub fn share(&self, team: TeamId) -> u64 {
        self.rules[team.0 as usize].share
    }

    pub fn limit(&self, team: TeamId) -> Option<u64> {
        self.rules[team.0 as usize].limit
    }

    /// A team and those that it is a part of. At most one more than there are.
    pub fn upwards(&self, team: TeamId) -> impl Iterator<Item = TeamId> + '_ {
        let parent = |team: &TeamId| self.rules[team.0 as usize].parent;
        std::iter::successors(Some(team), parent).take(self.rules.len() + 1)
    }

    /// The way down to a team's jobs.
    pub fn way(&self, team: TeamId) -> Vec<Seat> {
        let own = self.rules[team.0 as usize].parts.map(|_| Seat::OwnJobs(team));
        let mut way: Vec<Seat> =
            own.into_iter().chain(self.upwards(team).map(Seat::Team)).collect();
        way.reverse();
        way
    }

    pub fn share_of(&self, seat: Seat) -> u64 {
        match seat {
            Seat::Team(team) => self.share(team),
            Seat::OwnJobs(team) => {
                let parts = self.rules[team.0 as usize].parts.unwrap_or(0);
                self.share(team).saturating_sub(parts)
            }
        }
    }

    /// Whether any limit is set for the team, or above it.
    pub fn is_limited(&self, team: TeamId) -> bool {
        self.upwards(team).any(|above| self.limit(above).is_some())
    }

    /// The first team upwards whose limit does not leave room for so many GPUs more, beside what is
    /// promised.
    pub fn over_limit(&self, team: TeamId, gpus: u64, promised: &Promised) -> Option<OverLimit> {
        self.upwards(team).find_map(|team| {
            let limit = self.limit(team)?;
            let held = self.account(team).held.saturating_add(promised.to(team));
            let is_over = held.saturating_add(gpus) > limit;
            is_over.then_some(OverLimit { team, limit, held })
        })
    }

    /// The limit that so many GPUs alone are above, for a team of this name.
    pub fn too_large(&self, team: &str, gpus: u64) -> Option<(&str, u64)> {
        let mut above = self.upwards(self.find(team)?);
        let team = above.find(|&above| self.limit(above).is_some_and(|limit| gpus > limit))?;
        Some((&self.account(team).name, self.limit(team)?))
    }

    /// GPUs more that the limits leave to the team, beside what is promised.
    pub fn left_to(&self, team: TeamId, promised: &Promised) -> u64 {
        let left = |above: TeamId| {
            let held = self.account(above).held.saturating_add(promised.to(above));
            Some(self.limit(above)?.saturating_sub(held))
        };
        self.upwards(team).filter_map(left).min().unwrap_or(u64::MAX)
    }

    /// A gang of the team was given so many GPUs.
    pub fn take(&mut self, team: TeamId, gpus: u64, now: Time) {
        self.change(team, now, |account| account.held += gpus);
    }

    pub fn give_back(&mut self, team: TeamId, gpus: u64, now: Time) {
        self.change(team, now, |account| {
            assert!(account.held >= gpus, "team {} gives back too much", account.name);
            account.held -= gpus;
        });
    }

    fn change(&mut self, team: TeamId, now: Time, change: impl Fn(&mut Account)) {
        let above: Vec<TeamId> = self.upwards(team).collect();
        for team in above {
            let account = &mut self.accounts[team.0 as usize];
            account.used = used_at(account, self.half_life, now);
            account.at = now;
            change(account);
        }
    }

    /// Decayed GPU-milliseconds at `now`.
    pub fn used(&self, team: TeamId, now: Time) -> u64 {
        used_at(self.account(team), self.half_life, now) >> FRACTION
    }

    /// Where the team stands with a job of so many GPUs. What it holds counts as if it had held it
    /// for a half-life.
    pub fn standing(&self, team: TeamId, gpus: u64, now: Time) -> Standing {
        let mut levels: Vec<Level> = self
            .upwards(team)
            .map(|team| {
                let account = self.account(team);
                let share = self.share(team);
                let held = u128::from(account.held) * u128::from(self.half_life.0);
                Level {
                    borrows: account.held + gpus > share,
                    used: u128::from(self.used(team, now)) + held,
                    weight: share.max(1),
                }
            })
            .collect();
        levels.reverse();
        Standing(levels)
    }

    /// Panics unless the accounts hold what the jobs do: GPUs by team, as their jobs name it.
    pub fn check(&self, held: &BTreeMap<TeamId, u64>) {
        assert_eq!(self.by_name.len() + self.unused.len(), self.accounts.len());
        let mut sums = vec![0; self.accounts.len()];
        for (&team, &gpus) in held {
            for above in self.upwards(team) {
                sums[above.0 as usize] += gpus;
            }
        }
        for (account, sum) in self.accounts.iter().zip(sums) {
            assert_eq!(account.held, sum, "the account of team {} is wrong", account.name);
        }
    }

    /// The accounts as the jobs that have gangs say: after the tree of teams has changed.
    pub fn recount(&mut self, held: &BTreeMap<TeamId, u64>, now: Time) {
        for account in &mut self.accounts {
            account.used = used_at(account, self.half_life, now);
            account.at = now;
            account.held = 0;
        }
        for (&team, &gpus) in held {
            self.take(team, gpus, now);
        }
    }
}

/// So many teams are known at any rate.
const TEAMS_KEPT: usize = 256;
/// GPU-milliseconds that may be forgotten with a team: an hour of one GPU.
const USED_LITTLE: u64 = 3_600_000;

/// Binary digits of what was used below a millisecond.
const FRACTION: u32 = 10;

/// What was used, decayed, and what was held since, decayed: see [`Account::used`].
fn used_at(account: &Account, half_life: Millis, now: Time) -> u64 {
    let span = now.since(account.at).0;
    if span == 0 {
        return account.used;
    }
    let left = decay(span, half_life.0);
    let before = (u128::from(account.used) * left) >> 60;
    // The integral of held x 2^(-t/H) over the span: held x H / ln 2 x (1 - 2^(-span/H)).
    let weight = (u128::from(half_life.0) * ((1 << 60) - left)) >> 20;
    let weight = weight.saturating_mul(1_442_695) / 1_000_000;
    let since = u128::from(account.held).saturating_mul(weight) >> (40 - FRACTION);
    u64::try_from(before.saturating_add(since)).unwrap_or(u64::MAX)
}

/// 2^(-span / half_life), times 2^60: by a table of 64 steps a half-life, linear between them.
fn decay(span: u64, half_life: u64) -> u128 {
    let half_life = half_life.max(1);
    let halvings = span / half_life;
    if halvings >= 60 {
        return 0;
    }
    let rest = u128::from(span % half_life) * 64;
    let half_life = u128::from(half_life);
    let (step, between) = ((rest / half_life) as usize, rest % half_life);
    let (upper, lower) = (u128::from(POWERS[step]), u128::from(POWERS[step + 1]));
    (upper - (upper - lower) * between / half_life) >> halvings
}

/// 2^(-i/64) x 2^60.
const POWERS: [u64; 65] = [
    1_152_921_504_606_846_976,
    1_140_502_249_370_840_087,
    1_128_216_774_188_376_115,
    1_116_063_637_982_483_387,
    1_104_041_415_199_452_354,
    1_092_148_695_641_619_219,
    1_080_384_084_301_950_812,
    1_068_746_201_200_411_320,
    1_057_233_681_222_091_666,
    1_045_845_173_957_082_566,
    1_034_579_343_542_072_458,
    1_023_434_868_503_651_749,
    1_012_410_441_603_304_977,
    1_001_504_769_684_072_722,
    990_716_573_518_865_269,
    980_044_587_660_410_235,
    969_487_560_292_816_559,
    959_044_253_084_737_441,
    948_713_441_044_115_013,
    938_493_912_374_489_689,
    928_384_468_332_857_358,
    918_383_923_089_057_733,
    908_491_103_586_677_370,
    898_704_849_405_451_029,
    889_024_012_625_145_261,
    879_447_457_690_908_224,
    869_974_061_280_069_957,
    860_602_712_170_377_480,
    851_332_311_109_649_259,
    842_161_770_686_833_759,
    833_090_015_204_456_942,
    824_115_980_552_443_769,
    815_238_614_083_298_888,
    806_456_874_488_631_880,
    797_769_731_677_012_568,
    789_176_166_653_142_071,
    780_675_171_398_325_420,
    772_265_748_752_231_731,
    763_946_912_295_928_047,
    755_717_686_236_173_142,
    747_577_105_290_957_710,
    739_524_214_576_277_513,
    731_558_069_494_126_209,
    723_677_735_621_694_716,
    715_882_288_601_764_122,
    708_170_814_034_279_285,
    700_542_407_369_090_387,
    692_996_173_799_849_894,
    685_531_228_159_052_438,
    678_146_694_814_205_344,
    670_841_707_565_117_590,
    663_615_409_542_295_186,
    656_466_953_106_431_027,
    649_395_499_748_977_437,
    642_400_219_993_789_756,
    635_480_293_299_829_406,
    628_634_907_964_915_054,
    621_863_261_030_510_553,
    615_164_558_187_538_514,
    608_538_013_683_208_449,
    601_982_850_228_848_561,
    595_498_298_908_730_372,
    589_083_599_089_875_485,
    582_737_998_332_833_911,
    576_460_752_303_423_488,
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 3_600_000;

    fn teams(given: &[(&str, &str, u64)]) -> Teams {
        let teams = given
            .iter()
            .map(|&(name, parent, share)| Team {
                name: name.into(),
                parent: parent.into(),
                share,
                limit: None,
            })
            .collect();
        let mut made = Teams::default();
        made.rule_by(&Policy { teams, usage_half_life_ms: HOUR, ..Policy::default() });
        made
    }

    #[test]
    fn usage_halves_in_a_half_life() {
        let mut teams = teams(&[("a", "", 8)]);
        let a = teams.find("a").unwrap();
        teams.take(a, 10, Time(0));
        teams.give_back(a, 10, Time(1000));
        let used = teams.used(a, Time(1000));
        assert!((9_900..=10_000).contains(&used), "{used}");
        let later = teams.used(a, Time(1000 + HOUR));
        assert!((used / 2 - 1..=used / 2 + 1).contains(&later), "{used} became {later}");
    }

    #[test]
    fn a_gang_that_is_held_for_ever_counts_one_and_a_half_half_lives() {
        let mut teams = teams(&[("a", "", 8)]);
        let a = teams.find("a").unwrap();
        teams.take(a, 1, Time(0));
        let used = teams.used(a, Time(100 * HOUR));
        assert_eq!(used, HOUR * 1_442_695 / 1_000_000);
    }

    #[test]
    fn what_is_held_counts_however_often_the_account_changes() {
        let mut teams = Teams::default();
        teams.rule_by(&Policy::default());
        let a = teams.id("a");
        teams.take(a, 1000, Time(0));
        for at in 1..=10_000 {
            teams.take(a, 1, Time(at));
            teams.give_back(a, 1, Time(at));
        }
        let used = teams.used(a, Time(10_000));
        // The table of powers is straight between its steps, half a percent below the curve.
        assert!((9_940_000..=10_000_000).contains(&used), "1000 GPUs for 10 s: {used}");
    }

    #[test]
    fn teams_that_nothing_tells_of_any_more_are_forgotten() {
        let mut teams = Teams::default();
        let mut last = teams.id("kept");
        teams.remember(last, Time(0));
        for number in 0..10_000 {
            last = teams.id(&format!("run-{number}"));
            teams.remember(last, Time(number));
            teams.forget(last);
        }
        assert!(teams.accounts.len() <= 2 * TEAMS_KEPT, "{}", teams.accounts.len());
        assert!(teams.find("kept").is_some() && teams.find("run-0").is_none());
        teams.check(&BTreeMap::new());
    }

    #[test]
    fn a_time_without_a_policy_is_counted_too() {
        let mut teams = Teams::default();
        let a = teams.id("a");
        teams.take(a, 8, Time(0));
        teams.give_back(a, 8, Time(5));
        assert_eq!(teams.used(a, Time(9)), 0);
    }

    #[test]
    fn whoever_is_below_its_share_comes_first_and_parts_stand_by_their_whole() {
        let given = [("big", "", 100), ("x", "big", 50), ("y", "big", 50), ("small", "", 10)];
        let mut teams = teams(&given);
        let [x, y, small] = ["x", "y", "small"].map(|name| teams.find(name).unwrap());
        teams.take(x, 60, Time(0));
        let now = Time(0);
        let standing = |teams: &Teams, team| teams.standing(team, 1, now);
        assert!(standing(&teams, y) < standing(&teams, x));
        assert!(standing(&teams, small) < standing(&teams, y));
        assert!(teams.standing(small, 11, now) > standing(&teams, y), "it would borrow");
        teams.take(small, 10, Time(0));
        assert!(standing(&teams, y) < standing(&teams, small));
        teams.check(&BTreeMap::from([(x, 60), (small, 10)]));
    }

    proptest! {
        #[test]
        fn decay_is_the_same_in_two_steps_as_in_one(a in 0u64..10 * HOUR, b in 0u64..10 * HOUR) {
            let two = (decay(a, HOUR) * decay(b, HOUR)) >> 60;
            let one = decay(a + b, HOUR);
            let off = two.abs_diff(one);
            prop_assert!(off <= one / 10_000 + 2, "{two} and {one}");
        }
    }
}
