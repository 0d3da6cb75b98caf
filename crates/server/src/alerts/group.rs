//! From alerts to messages: what belongs together is one, and what happens again is counted.
//!
//! It has no clock: alerts carry their time, and whoever calls says what time it is. Alerts join
//! the message that has their node or job, a place of their node, or their kind and class. Each
//! that is taken is in exactly one message.

use super::alert::{Alert, Key, Kind};
use super::config::{Filter, Rules};
use super::message::Message;
use lindos_model::Time;
use std::collections::{BTreeMap, BTreeSet};

/// A message is closed when it has this many: what is held in memory has a bound.
const ALERTS_MAX: usize = 5_000;
/// How near an alert is to a message: the smaller, the nearer.
const SAME_SUBJECT: u8 = 0;
const SAME_PLACE: u8 = 1;
const SAME_CLASS: u8 = 2;

#[derive(Debug)]
pub struct Grouper {
    rules: Rules,
    filter: Filter,
    open: Vec<Group>,
    /// What was told, and how often it has happened since.
    told: BTreeMap<Key, Told>,
    /// By node: what was said of it, and is not over.
    troubled: BTreeMap<String, BTreeSet<Kind>>,
}

#[derive(Debug)]
struct Group {
    first: Time,
    last: Time,
    alerts: Vec<Alert>,
}

#[derive(Debug)]
struct Told {
    /// Until then it is only counted.
    until: Time,
    again: Vec<Alert>,
}

impl Group {
    fn closes(&self, rules: &Rules) -> Time {
        if self.alerts.len() >= ALERTS_MAX {
            return self.last;
        }
        (self.last + rules.window).min(self.first + rules.hold)
    }

    fn is_over(&self) -> bool {
        self.alerts.iter().all(Alert::is_over)
    }

    /// How near an alert is to this message, if it may be a part of it.
    fn nearness(&self, alert: &Alert) -> Option<u8> {
        let subject = alert.subject();
        let has_subject = |other: &Alert| {
            let is_same_node = alert.node.is_some()
                && other.node.as_ref().map(|node| &node.name)
                    == alert.node.as_ref().map(|node| &node.name);
            // The verdict goes with the fault that it is about.
            let is_same_job = alert.job.is_some()
                && other.job.as_ref().map(|job| job.id) == alert.job.as_ref().map(|job| job.id);
            let is_verdict = alert.kind == Kind::Blamed || other.kind == Kind::Blamed;
            let is_same_fault = is_same_job && is_verdict;
            is_same_node || is_same_fault || (!subject.is_empty() && other.subject() == subject)
        };
        let shares_place = |other: &Alert| {
            let mut places = other.places().iter();
            let is_laid = other.places().iter().any(|place| alert.is_laid_to(place))
                || alert.places().iter().any(|place| other.is_laid_to(place));
            is_laid || places.any(|place| alert.places().iter().any(|own| own.path == place.path))
        };
        let shares_class = |other: &Alert| (other.kind, &other.class) == (alert.kind, &alert.class);
        if self.is_over() && !alert.is_over() {
            return None;
        }
        // What is over goes with its trouble only where that is of the same node.
        let may_stand_together = self.is_over() == alert.is_over();
        if self.alerts.iter().any(has_subject) {
            Some(SAME_SUBJECT)
        } else if may_stand_together && self.alerts.iter().any(shares_place) {
            Some(SAME_PLACE)
        } else if may_stand_together && self.alerts.iter().any(shares_class) {
            Some(SAME_CLASS)
        } else {
            None
        }
    }
}

impl Grouper {
    pub fn new(rules: Rules, filter: Filter) -> Grouper {
        Grouper {
            rules,
            filter,
            open: Vec::new(),
            told: BTreeMap::new(),
            troubled: BTreeMap::new(),
        }
    }

    /// Takes an alert, or says that it is none for this webhook.
    pub fn take(&mut self, alert: Alert) -> bool {
        if !self.follow_trouble(&alert) {
            return self.accompanies(alert);
        }
        if let Some(told) = self.told.get_mut(&alert.key())
            && (alert.at < told.until || !told.again.is_empty())
        {
            told.again.push(alert);
            return true;
        }
        if let Some((_, index)) = self.nearest(&alert) {
            let group = &mut self.open[index];
            group.last = group.last.max(alert.at);
            group.alerts.push(alert);
        } else {
            let (first, last) = (alert.at, alert.at);
            self.open.push(Group { first, last, alerts: vec![alert] });
        }
        true
    }

    /// The open message that the alert is nearest to, and how near that is.
    fn nearest(&self, alert: &Alert) -> Option<(u8, usize)> {
        let near = self.open.iter().enumerate().filter_map(|(index, group)| {
            let is_open = alert.at < group.closes(&self.rules);
            group.nearness(alert).filter(|_| is_open).map(|nearness| (nearness, index))
        });
        near.min()
    }

    /// What is not worth a message of its own is still a part of the story of its node or place,
    /// as the jobs that a silent node has hit. It holds no message up.
    fn accompanies(&mut self, alert: Alert) -> bool {
        if alert.is_over() || !self.filter.takes(alert.kind) {
            return false;
        }
        let near = self.nearest(&alert).filter(|(nearness, _)| *nearness <= SAME_PLACE);
        if let Some((_, index)) = near {
            self.open[index].alerts.push(alert);
        }
        near.is_some()
    }

    /// An alert that was told in another life of the control plane: it is not told again, but what
    /// comes after it is understood.
    pub fn recall(&mut self, alert: &Alert) {
        if self.follow_trouble(alert) {
            let until = alert.at + self.rules.repeat;
            let told = self.told.entry(alert.key());
            let told = told.or_insert_with(|| Told { until, again: Vec::new() });
            if told.again.is_empty() {
                told.until = until;
            }
        }
    }

    /// Whether the alert is one for this webhook, as far as it alone can tell.
    pub fn would_take(&self, alert: &Alert) -> bool {
        !alert.is_over() && self.filter.passes(alert)
    }

    /// When there will be something to send, if nothing else happens.
    pub fn due(&self) -> Option<Time> {
        let groups = self.open.iter().map(|group| group.closes(&self.rules));
        let again = self.told.values().filter(|told| !told.again.is_empty());
        groups.chain(again.map(|told| told.until)).min()
    }

    /// The messages that are complete by now, the oldest first.
    pub fn poll(&mut self, now: Time) -> Vec<Message> {
        let rules = self.rules;
        let complete: Vec<Group> =
            self.open.extract_if(.., |group| group.closes(&rules) <= now).collect();
        let mut messages = Vec::new();
        for group in complete {
            let message = Message::of(&group.alerts);
            if !message.over && message.severity < self.filter.min_severity {
                self.forget(&group.alerts);
                continue;
            }
            for alert in group.alerts.iter().filter(|alert| self.filter.may_lead(alert)) {
                let until = now + rules.repeat;
                let told = self.told.entry(alert.key());
                let told = told.or_insert_with(|| Told { until, again: Vec::new() });
                // What is counted already is not held back any longer.
                if told.again.is_empty() {
                    told.until = until;
                }
            }
            messages.push(message);
        }
        messages.extend(self.again(now));
        messages
    }

    /// What is not told after all needs no end.
    fn forget(&mut self, alerts: &[Alert]) {
        for alert in alerts {
            let Some(node) = &alert.node else { continue };
            if let Some(troubles) = self.troubled.get_mut(&node.name) {
                troubles.remove(&alert.kind);
            }
        }
    }

    /// What has happened again and again, as one message; what has not may be told anew.
    fn again(&mut self, now: Time) -> Option<Message> {
        let mut again = Vec::new();
        let until = now + self.rules.repeat;
        self.told.retain(|_, told| {
            if told.until > now {
                return true;
            }
            let is_told = !told.again.is_empty();
            again.append(&mut told.again);
            told.until = until;
            is_told
        });
        again.sort_by_key(|alert| alert.seq);
        (!again.is_empty()).then(|| Message::again(&again))
    }

    /// The alerts that were taken and are in no message yet.
    pub fn pending(&self) -> impl Iterator<Item = u64> {
        let open = self.open.iter().flat_map(|group| &group.alerts);
        let again = self.told.values().flat_map(|told| &told.again);
        open.chain(again).map(|alert| alert.seq)
    }

    /// Whether the alert is one for this webhook; notes what it begins, or puts an end to.
    fn follow_trouble(&mut self, alert: &Alert) -> bool {
        let Some(node) = alert.node.as_ref().filter(|_| !alert.is_of_job()) else {
            return self.filter.passes(alert);
        };
        if alert.is_over() {
            let Some(troubles) = self.troubled.get_mut(&node.name) else { return false };
            let before = troubles.len();
            troubles.retain(|kind| !alert.mends.contains(kind));
            let has_mended = troubles.len() < before;
            if troubles.is_empty() {
                self.troubled.remove(&node.name);
            }
            return has_mended && self.filter.takes(alert.kind);
        }
        let passes = self.filter.passes(alert);
        if passes {
            self.troubled.entry(node.name.clone()).or_default().insert(alert.kind);
        }
        passes
    }
}
