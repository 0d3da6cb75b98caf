//! What each team holds and has used, and who of them is next.
//!
//! Usage is decayed: GPU-time counts half as much after each half-life. All of it is integer
//! arithmetic, so that every replay comes to the same order.

use lindos_model::policy::Team;
use lindos_model::{Millis, Policy, Time};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Number of a team, in the order in which they were first named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TeamId(pub u32);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub name: String,
    /// GPUs of its gangs now, with those of the teams below it.
    pub held: u64,
    /// Decayed GPU-milliseconds as of `at`, with those of the teams below it.
    used: u64,
    at: Time,
}

/// What the policy says of a team.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct Rule {
    parent: Option<TeamId>,
    share: u64,
    limit: Option<u64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Teams {
    accounts: Vec<Account>,
    by_name: BTreeMap<String, TeamId>,
    /// See [`Teams::rule_by`].
    #[serde(skip)]
    rules: Vec<Rule>,
    #[serde(skip)]
    half_life: Millis,
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
                    parent: self.by_name.get(&team.parent).copied(),
                    share: team.share,
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
    }

    /// The team of this name, known from now on.
    pub fn id(&mut self, name: &str) -> TeamId {
        if let Some(&id) = self.by_name.get(name) {
            return id;
        }
        let id = TeamId(self.accounts.len() as u32);
        self.by_name.insert(name.to_string(), id);
        self.accounts.push(Account { name: name.to_string(), held: 0, used: 0, at: Time::ZERO });
        self.rules.push(Rule::default());
        id
    }

    pub fn find(&self, name: &str) -> Option<TeamId> {
        self.by_name.get(name).copied()
    }

    pub fn account(&self, team: TeamId) -> &Account {
        &self.accounts[team.0 as usize]
    }

    pub fn accounts(&self) -> impl Iterator<Item = (TeamId, &Account)> {
        self.accounts.iter().enumerate().map(|(index, account)| (TeamId(index as u32), account))
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

    /// The first team upwards whose limit does not leave room for so many GPUs more.
    pub fn over_limit(&self, team: TeamId, gpus: u64) -> Option<(TeamId, u64)> {
        self.upwards(team).find_map(|above| {
            let limit = self.limit(above)?;
            (self.account(above).held + gpus > limit).then_some((above, limit))
        })
    }

    /// The limit that so many GPUs alone are above, for a team of this name.
    pub fn too_large(&self, team: &str, gpus: u64) -> Option<(&str, u64)> {
        let mut above = self.upwards(self.find(team)?);
        let team = above.find(|&above| self.limit(above).is_some_and(|limit| gpus > limit))?;
        Some((&self.account(team).name, self.limit(team)?))
    }

    /// GPUs more that the limits leave to the team.
    pub fn left_to(&self, team: TeamId) -> u64 {
        let left =
            |above: TeamId| Some(self.limit(above)?.saturating_sub(self.account(above).held));
        self.upwards(team).filter_map(left).min().unwrap_or(u64::MAX)
    }

    /// Whether so many GPUs more are within the team's own share.
    pub fn is_within_share(&self, team: TeamId, gpus: u64) -> bool {
        self.account(team).held + gpus <= self.share(team)
    }

    pub fn borrows(&self, team: TeamId) -> bool {
        self.account(team).held > self.share(team)
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
        used_at(self.account(team), self.half_life, now)
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

/// What was used, decayed, and what was held since, decayed.
fn used_at(account: &Account, half_life: Millis, now: Time) -> u64 {
    let span = now.since(account.at).0;
    if span == 0 {
        return account.used;
    }
    let left = decay(span, half_life.0);
    let before = (u128::from(account.used) * left) >> 60;
    // The integral of held x 2^(-t/H) over the span: held x H / ln 2 x (1 - 2^(-span/H)).
    let weight = ((u128::from(half_life.0) * ((1 << 60) - left)) >> 60) * 1_442_695 / 1_000_000;
    u64::try_from(before + u128::from(account.held) * weight).unwrap_or(u64::MAX)
}

/// 2^(-span / half_life), times 2^60: by a table of 64 steps a half-life, linear between them.
fn decay(span: u64, half_life: u64) -> u128 {
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
