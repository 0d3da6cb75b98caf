//! Who trains with whom, agreed on while training goes on: the rules alone.
//!
//! It does no I/O and reads no clock. Inputs are `linked`, `lost`, `heard`, `stands_at` and
//! `review`; outputs are taken with `poll_message` and `poll_begun`.
//!
//! A [`View`] is the replicas that share the steps, with a number that only grows. The lowest
//! member that lives proposes the next one; each member that is asked promises to take part in
//! no earlier one, and says how many steps it holds; when all have answered, the view begins.
//! Whoever is lost meanwhile makes the next proposer begin again with a higher number.
//!
//! It need not be more than that, because the state after a step is one and the same whoever
//! computed it: an error here can cost work, and never gives two different states.

mod message;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

pub use self::message::{Begin, Begun, Here, Member, Message, View, WasDropped};

#[derive(Debug)]
struct Peer {
    epoch: u64,
    here: Option<Here>,
}

#[derive(Debug)]
struct Proposal {
    view: View,
    /// The steps that each one holds, by replica.
    promises: BTreeMap<usize, Option<u64>>,
}

/// One replica's knowledge of all.
#[derive(Debug)]
pub struct Agreement {
    me: Member,
    replicas: usize,
    /// Fewer do not train.
    least: usize,
    /// The steps of the run: with all of them done, any number may finish.
    steps: u64,
    step: Option<u64>,
    peers: BTreeMap<usize, Peer>,
    view: Option<View>,
    promised: u64,
    promised_to: Option<Member>,
    proposal: Option<Proposal>,
    /// The last epoch of each replica that was lost while it was in a view.
    dropped: BTreeMap<usize, u64>,
    waited_enough: bool,
    messages: VecDeque<(usize, Message)>,
    begun: VecDeque<Begun>,
}

impl Agreement {
    pub fn new(me: Member, replicas: usize, least: usize, steps: u64) -> Self {
        Self {
            me,
            replicas,
            least,
            steps,
            step: None,
            peers: BTreeMap::new(),
            view: None,
            promised: 0,
            promised_to: None,
            proposal: None,
            dropped: BTreeMap::new(),
            waited_enough: false,
            messages: VecDeque::new(),
            begun: VecDeque::new(),
        }
    }

    pub fn view(&self) -> Option<&View> {
        self.view.as_ref()
    }

    /// Whether what was sent in that view is for this replica: it comes after the promise, and
    /// is too late after the next one. An earlier run may have had a view of that number.
    pub fn listens_in(&self, view: u64) -> bool {
        view == self.promised
    }

    /// Whether steps may be taken in the view; not while the next one is being agreed on.
    pub fn settled(&self) -> bool {
        self.view.as_ref().is_some_and(|view| view.number == self.promised)
    }

    pub fn is_there(&self, member: Member) -> bool {
        member == self.me
            || self.peers.get(&member.replica).is_some_and(|peer| peer.epoch == member.epoch)
    }

    /// Whether a member of the view is there and not left waiting: for this view, since its
    /// proposer was lost before it could tell, or for another that did not come to be.
    pub fn takes_part(&self, member: Member) -> bool {
        let number = self.view.as_ref().map(|view| view.number);
        let waits = self.here_of(member).is_some_and(|here| here.left_waiting >= number);
        self.is_there(member) && !waits
    }

    fn here_of(&self, member: Member) -> Option<&Here> {
        self.peers.get(&member.replica).and_then(|peer| peer.here.as_ref())
    }

    /// Whether one that may be reached is in a view.
    pub fn sees_a_run(&self) -> bool {
        self.peers.values().any(|peer| peer.here.as_ref().is_some_and(|here| here.in_view))
    }

    /// Whether as many live, with those that wait to be taken in, as must train together.
    pub fn are_enough(&self) -> bool {
        let members = self.view.as_ref().map_or(vec![self.me], |view| self.living(view));
        self.suffices(&self.with_joiners(members))
    }

    /// A connection to a launch of another replica, which may have taken the place of an older.
    pub fn linked(&mut self, member: Member) {
        self.lost(member.replica);
        if self.was_dropped(member) {
            return;
        }
        self.peers.insert(member.replica, Peer { epoch: member.epoch, here: None });
        let here = self.here();
        self.messages.push_back((member.replica, here));
    }

    /// The connection ended. A member is lost for good with it: what it sent may be lost too.
    pub fn lost(&mut self, replica: usize) {
        let Some(Peer { epoch, .. }) = self.peers.remove(&replica) else {
            return;
        };
        let member = Member { replica, epoch };
        if self.view.as_ref().is_some_and(|view| view.members.contains(&member)) {
            self.dropped.insert(replica, epoch);
        }
        let lost = |proposal: &Proposal| proposal.view.place(replica).is_some();
        if self.proposal.as_ref().is_some_and(lost) {
            self.proposal = None;
        }
        if self.left_waiting().is_some() {
            self.tell_all();
        } else {
            self.tell_all_if_fresh();
        }
    }

    /// This replica holds the state after `step`.
    pub fn stands_at(&mut self, step: u64) {
        self.step = Some(step);
    }

    /// There is nothing left that others are needed for.
    pub fn go_alone(&mut self, step: u64) {
        self.step = Some(step);
        self.peers.clear();
        self.messages.clear();
        self.view = Some(View { number: self.promised, members: vec![self.me] });
    }

    /// Those that did not come to the first start are waited for no longer. Returns whether
    /// they were until now.
    pub fn wait_no_longer(&mut self) -> bool {
        !std::mem::replace(&mut self.waited_enough, true)
    }

    pub fn poll_message(&mut self) -> Option<(usize, Message)> {
        self.messages.pop_front()
    }

    pub fn poll_begun(&mut self) -> Option<Begun> {
        self.begun.pop_front()
    }

    pub fn heard(&mut self, from: usize, message: Message) -> Result<(), WasDropped> {
        let Some(peer) = self.peers.get_mut(&from) else {
            return Ok(());
        };
        let sender = Member { replica: from, epoch: peer.epoch };
        match message {
            Message::Here(here) => {
                let first = peer.here.replace(here).is_none();
                if first {
                    self.tell_all_if_fresh();
                }
            }
            Message::Propose { view, joiners } => self.on_proposal(sender, &view, &joiners),
            Message::Promise { number, step } => self.on_promise(from, number, step),
            Message::Outbid { number } => self.on_outbid(number),
            Message::Dropped => return Err(WasDropped),
            Message::Begin(begin) if begin.view.number < self.promised => {
                self.messages.push_back((from, Message::Outbid { number: self.promised }));
            }
            Message::Begin(begin) => self.begin(begin, false),
        }
        Ok(())
    }

    fn on_proposal(&mut self, sender: Member, next: &View, joiners: &[Member]) {
        if !next.members.contains(&self.me) {
            return;
        }
        // Two that hold each other for lost may both have gone on, where few are enough.
        let taken = joiners.contains(&self.me)
            && self.view.as_ref().is_some_and(|view| !view.members.contains(&sender));
        let answer = if self.was_dropped(sender) {
            Message::Dropped
        } else if taken {
            Message::Outbid { number: next.number + 1 }
        } else if next.number <= self.promised {
            Message::Outbid { number: self.promised }
        } else {
            self.promised = next.number;
            self.promised_to = Some(sender);
            self.proposal = None;
            Message::Promise { number: next.number, step: self.step }
        };
        self.messages.push_back((sender.replica, answer));
    }

    /// The next number must be higher, unless this replica waits for another's view anyway.
    fn on_outbid(&mut self, number: u64) {
        let outbids = self.proposal.is_some() && number == self.promised;
        if outbids || (number > self.promised && !self.waits_for_another()) {
            self.promised = number;
            self.promised_to = None;
            self.proposal = None;
        }
    }

    fn on_promise(&mut self, from: usize, number: u64, step: Option<u64>) {
        let Some(proposal) = &mut self.proposal else {
            return;
        };
        if proposal.view.number == number && proposal.view.place(from).is_some() {
            proposal.promises.insert(from, step);
        }
        self.begin_if_all_promised();
    }

    /// Propose the next view if one is needed and it is for this replica to do. Joiners alone
    /// are a reason only at a `boundary`, when a step has been added up and none begun.
    pub fn review(&mut self, boundary: bool) {
        if self.proposal.is_some() || self.waits_for_another() {
            return;
        }
        let Some(view) = &self.view else {
            return self.review_first_start();
        };
        let living = self.living(view);
        // Whoever waits and is in no view does not know that it is for it to propose.
        let proposes = |member: &&Member| {
            self.takes_part(**member) || self.here_of(**member).is_some_and(|here| here.in_view)
        };
        if living.iter().find(proposes) != Some(&self.me) {
            return;
        }
        let all_take_part = view.members.iter().all(|member| self.takes_part(*member));
        let broken = !all_take_part || self.promised > view.number;
        let members = self.with_joiners(living.clone());
        let joined = boundary && members.len() > living.len();
        if (broken || joined) && self.suffices(&members) {
            self.propose(members);
        }
    }

    /// All replicas begin together, unless there is a run already: that takes in whoever comes.
    fn review_first_start(&mut self) {
        if self.sees_a_run() {
            return;
        }
        let members = self.with_joiners(vec![self.me]);
        let all = members.len() == self.replicas;
        let lowest = self.peers.keys().all(|replica| *replica > self.me.replica);
        if lowest && (all || self.waited_enough && members.len() >= self.least) {
            self.propose(members);
        }
    }

    fn waits_for_another(&self) -> bool {
        !self.settled() && self.promised_to.is_some_and(|member| self.is_there(member))
    }

    fn living(&self, view: &View) -> Vec<Member> {
        view.members.iter().copied().filter(|member| self.is_there(*member)).collect()
    }

    /// Whether only a later launch of it may come back.
    pub fn was_dropped(&self, member: Member) -> bool {
        self.dropped.get(&member.replica).is_some_and(|epoch| member.epoch <= *epoch)
    }

    fn suffices(&self, members: &[Member]) -> bool {
        members.len() >= self.least || self.step >= Some(self.steps)
    }

    /// With those that wait to be taken in and have heard everybody else: should any two be
    /// all that is left, they must know each other.
    fn with_joiners(&self, mut members: Vec<Member>) -> Vec<Member> {
        let has_heard = |one: Member, other: Member| {
            self.here_of(one).is_some_and(|here| !here.in_view && here.heard.contains(&other))
        };
        let mut joiners: Vec<Member> = Vec::new();
        for (&replica, peer) in &self.peers {
            let joiner = Member { replica, epoch: peer.epoch };
            if !members.contains(&joiner)
                && !self.was_dropped(joiner)
                && members.iter().all(|member| has_heard(joiner, *member))
                && joiners.iter().all(|other| has_heard(*other, joiner))
                && joiners.iter().all(|other| has_heard(joiner, *other))
            {
                joiners.push(joiner);
            }
        }
        members.extend(joiners);
        members.sort_unstable();
        members
    }

    fn propose(&mut self, members: Vec<Member>) {
        self.promised += 1;
        self.promised_to = None;
        let view = View { number: self.promised, members };
        let known =
            |member: &Member| self.view.as_ref().is_none_or(|view| view.members.contains(member));
        let joiners = view.members.iter().copied().filter(|member| !known(member)).collect();
        self.tell_members(&view, &Message::Propose { view: view.clone(), joiners });
        let promises = BTreeMap::from([(self.me.replica, self.step)]);
        self.proposal = Some(Proposal { view, promises });
        self.begin_if_all_promised();
    }

    fn begin_if_all_promised(&mut self) {
        let all = |proposal: &mut Proposal| proposal.view.members.len() == proposal.promises.len();
        let Some(Proposal { view, promises }) = self.proposal.take_if(all) else {
            return;
        };
        let step = promises.values().copied().max().flatten();
        let holding = |wanted: Option<u64>| {
            let promises = &promises;
            promises.iter().filter(move |(_, step)| **step == wanted).map(|(replica, _)| *replica)
        };
        let source = step.and_then(|_| holding(step).next()).unwrap_or(self.me.replica);
        let fresh = holding(None).filter(|replica| *replica != source).collect();
        let behind = promises
            .iter()
            .filter(|(_, theirs)| theirs.is_some() && **theirs < step)
            .map(|(replica, _)| *replica)
            .collect();
        let begin = Begin { view, step, source, fresh, behind };
        self.tell_members(&begin.view, &Message::Begin(begin.clone()));
        self.begin(begin, true);
    }

    fn begin(&mut self, begin: Begin, proposed_here: bool) {
        let view = begin.view.clone();
        let last = self.view.replace(view.clone());
        let without = |members: &[Member], others: &[Member]| -> Vec<Member> {
            members.iter().copied().filter(|member| !others.contains(member)).collect()
        };
        let (mut lost, mut back) = (Vec::new(), Vec::new());
        if let Some(last) = last {
            lost = without(&last.members, &view.members);
            back = without(&view.members, &last.members);
        }
        // As in `lost`: also those that were lost before they became members.
        let apart = view.members.iter().filter(|member| !self.is_there(**member));
        let gone: Vec<Member> = apart.chain(&lost).copied().collect();
        self.dropped.extend(gone.iter().map(|member| (member.replica, member.epoch)));
        self.promised = view.number;
        self.promised_to = None;
        self.proposal = None;
        // Whoever is not in it must not begin a run of its own.
        let here = self.here();
        let outside = self.peers.keys().filter(|replica| view.place(**replica).is_none());
        self.messages.extend(outside.map(|replica| (*replica, here.clone())));
        self.begun.push_back(Begun { begin, lost, back, proposed_here });
    }

    fn tell_members(&mut self, view: &View, message: &Message) {
        let others = view.members.iter().filter(|member| **member != self.me);
        self.messages.extend(others.map(|member| (member.replica, message.clone())));
    }

    fn here(&self) -> Message {
        let heard = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.here.is_some())
            .map(|(&replica, peer)| Member { replica, epoch: peer.epoch });
        Message::Here(Here {
            heard: heard.collect(),
            in_view: self.view.is_some(),
            left_waiting: self.left_waiting(),
        })
    }

    fn left_waiting(&self) -> Option<u64> {
        let left = |proposer: &Member| !self.is_there(*proposer);
        self.promised_to.filter(left).map(|_| self.promised)
    }

    fn tell_all_if_fresh(&mut self) {
        if self.view.is_none() {
            self.tell_all();
        }
    }

    fn tell_all(&mut self) {
        let here = self.here();
        self.messages.extend(self.peers.keys().map(|replica| (*replica, here.clone())));
    }
}
