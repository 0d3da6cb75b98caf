//! Messages that wait for their receiver, as many as fit.

use super::message::Message;
use std::collections::VecDeque;

/// A person reads no more than these after an outage of the receiver.
const MESSAGES_MAX: usize = 50;

#[derive(Debug)]
pub struct Queue {
    messages: VecDeque<Message>,
    most: usize,
    /// Messages that became part of another.
    pub merged: u64,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue::with_room(MESSAGES_MAX)
    }
}

impl Queue {
    fn with_room(most: usize) -> Queue {
        Queue { messages: VecDeque::new(), most, merged: 0 }
    }

    /// When there is no room, the two oldest become one.
    pub fn push(&mut self, message: Message) {
        if self.messages.len() >= self.most
            && let (Some(first), Some(second)) =
                (self.messages.pop_front(), self.messages.pop_front())
        {
            self.messages.push_front(first.merged(second));
            self.merged += 1;
        }
        self.messages.push_back(message);
    }

    pub fn pop(&mut self) -> Option<Message> {
        self.messages.pop_front()
    }

    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn pending(&self) -> impl Iterator<Item = u64> {
        self.messages.iter().flat_map(|message| &message.seqs).copied()
    }
}
