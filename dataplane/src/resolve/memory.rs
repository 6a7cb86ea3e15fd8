//! What is known about one name, and when to ask again. Pure: answers in, addresses and waiting time out.
//!
//! The two families are judged apart, so that a server that fails for AAAA alone costs no IPv4 address. An answer
//! replaces what was known. "There is none" is an answer too, but one that a server in the middle of a change gives by
//! mistake: it counts when it comes three times in a row. A failure is no answer: what was known stays, for as long as
//! it lasts.

use crate::table::Refresh;
use std::net::IpAddr;
use std::time::Duration;

/// Addresses of one name that are used, of each family.
pub(super) const ADDRESSES: usize = 128;
/// Answers "there is none" in a row after which it is believed.
const BELIEVED: u32 = 3;
/// No name is asked for more often, whatever the answer's time to live.
pub(super) const SHORTEST: Duration = Duration::from_secs(1);
/// Waiting time after failures: from [`SHORTEST`], doubled by each, up to this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// What a lookup of one family came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// At least one address; the shortest time to live of the records that led to them.
    Addresses(Vec<IpAddr>, Duration),
    /// No such name, or no record of this family.
    Nothing,
    /// No answer: why, for the log.
    Failed(String),
}

/// One name.
#[derive(Debug, Default)]
pub(super) struct Memory {
    v4: Family,
    v6: Family,
    /// Lookups in a row that left something open.
    troubles: u32,
}

#[derive(Debug, Default)]
struct Family {
    addresses: Vec<IpAddr>,
    /// Answers "there is none" in a row.
    nothing: u32,
}

impl Family {
    /// Says whether the matter is open: the answer failed or is not believed yet.
    fn take(&mut self, answer: Answer) -> bool {
        match of_hosts(answer) {
            Answer::Addresses(mut addresses, _) => {
                addresses.sort_unstable();
                addresses.dedup();
                addresses.truncate(ADDRESSES);
                self.addresses = addresses;
                self.nothing = 0;
                false
            }
            Answer::Nothing => {
                self.nothing = self.nothing.saturating_add(1);
                if self.nothing >= BELIEVED {
                    self.addresses.clear();
                }
                !self.addresses.is_empty()
            }
            Answer::Failed(_) => true,
        }
    }
}

/// Without addresses that no host has, as servers give them that want a name blocked: there is nothing else then.
fn of_hosts(answer: Answer) -> Answer {
    let Answer::Addresses(mut addresses, ttl) = answer else {
        return answer;
    };
    addresses.retain(|ip| !ip.is_unspecified() && !ip.is_multicast());
    match addresses.is_empty() {
        true => Answer::Nothing,
        false => Answer::Addresses(addresses, ttl),
    }
}

impl Memory {
    /// Takes the answers of a lookup and says how long to wait until the next.
    pub(super) fn take(&mut self, v4: Answer, v6: Answer, refresh: Refresh) -> Duration {
        let ttl = [&v4, &v6]
            .into_iter()
            .filter_map(|answer| match answer {
                Answer::Addresses(_, ttl) => Some(*ttl),
                Answer::Nothing | Answer::Failed(_) => None,
            })
            .min();
        let open = self.v4.take(v4) | self.v6.take(v6);
        let mut wait = refresh.interval;
        if let Some(ttl) = ttl.filter(|_| refresh.respect_ttl) {
            wait = wait.min(ttl);
        }
        if open || self.is_empty() {
            let backoff = SHORTEST.saturating_mul(1 << self.troubles.min(10));
            self.troubles = self.troubles.saturating_add(1);
            wait = wait.min(backoff.min(LONGEST_BACKOFF));
        } else {
            self.troubles = 0;
        }
        wait.max(SHORTEST)
    }

    /// The addresses of the moment, stale ones included.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        [&self.v4.addresses[..], &self.v6.addresses].concat()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.v4.addresses.is_empty() && self.v6.addresses.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(list: &[&str], ttl: u64) -> Answer {
        let list = list.iter().map(|a| a.parse().unwrap()).collect();
        Answer::Addresses(list, Duration::from_secs(ttl))
    }

    fn failed() -> Answer {
        Answer::Failed("SERVFAIL".into())
    }

    fn shown(memory: &Memory) -> Vec<String> {
        memory.addresses().iter().map(IpAddr::to_string).collect()
    }

    const SLOW: Refresh = Refresh {
        interval: Duration::from_secs(300),
        respect_ttl: true,
    };

    #[test]
    fn the_time_to_live_counts_between_a_second_and_the_interval() {
        for (ttl, respect_ttl, expected) in [
            (0, true, 1),
            (20, true, 20),
            (3600, true, 300),
            (20, false, 300),
        ] {
            let refresh = Refresh {
                respect_ttl,
                ..SLOW
            };
            let wait = Memory::default().take(some(&["10.0.0.1"], ttl), Answer::Nothing, refresh);
            assert_eq!(wait, Duration::from_secs(expected), "{ttl} {respect_ttl}");
        }
        let both = Memory::default().take(some(&["10.0.0.1"], 60), some(&["fd::1"], 40), SLOW);
        assert_eq!(both, Duration::from_secs(40));
    }

    #[test]
    fn an_answer_replaces_what_was_known() {
        let mut memory = Memory::default();
        memory.take(
            some(&["10.0.0.2", "10.0.0.1", "10.0.0.2"], 9),
            some(&["fd::1"], 9),
            SLOW,
        );
        assert_eq!(shown(&memory), ["10.0.0.1", "10.0.0.2", "fd::1"]);
        memory.take(some(&["10.0.0.3"], 9), some(&["fd::2"], 9), SLOW);
        assert_eq!(shown(&memory), ["10.0.0.3", "fd::2"]);
    }

    #[test]
    fn failures_keep_what_is_known_and_are_repeated_ever_more_slowly() {
        let mut memory = Memory::default();
        memory.take(some(&["10.0.0.1"], 60), Answer::Nothing, SLOW);
        let waits: Vec<_> = (0..8)
            .map(|_| memory.take(failed(), failed(), SLOW).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(shown(&memory), ["10.0.0.1"]);
        let wait = memory.take(some(&["10.0.0.2"], 60), Answer::Nothing, SLOW);
        assert_eq!(wait.as_secs(), 60);
        assert_eq!(memory.take(failed(), failed(), SLOW).as_secs(), 1, "anew");
    }

    #[test]
    fn a_family_that_fails_costs_the_other_nothing() {
        let mut memory = Memory::default();
        memory.take(some(&["10.0.0.1"], 60), some(&["fd::1"], 60), SLOW);
        let wait = memory.take(some(&["10.0.0.2"], 60), failed(), SLOW);
        assert_eq!(shown(&memory), ["10.0.0.2", "fd::1"]);
        assert_eq!(wait.as_secs(), 1, "the other is asked for soon");
    }

    #[test]
    fn nothing_is_believed_the_third_time_in_a_row() {
        let mut memory = Memory::default();
        memory.take(some(&["10.0.0.1"], 60), Answer::Nothing, SLOW);
        for _ in 0..2 {
            memory.take(Answer::Nothing, Answer::Nothing, SLOW);
            // Says nothing about the name, for or against.
            memory.take(failed(), failed(), SLOW);
            assert_eq!(shown(&memory), ["10.0.0.1"]);
        }
        memory.take(Answer::Nothing, Answer::Nothing, SLOW);
        assert!(memory.is_empty());
        let again = memory.take(some(&["10.0.0.1"], 60), Answer::Nothing, SLOW);
        assert_eq!(
            (shown(&memory), again.as_secs()),
            (vec!["10.0.0.1".into()], 60)
        );
        memory.take(Answer::Nothing, Answer::Nothing, SLOW);
        assert!(!memory.is_empty(), "counted anew");
    }

    #[test]
    fn addresses_of_no_host_are_as_if_there_were_none() {
        let mut memory = Memory::default();
        memory.take(some(&["10.0.0.1"], 60), Answer::Nothing, SLOW);
        let nobody = || some(&["0.0.0.0", "224.0.0.1"], 60);
        for _ in 0..2 {
            let wait = memory.take(nobody(), some(&["::"], 60), SLOW);
            assert!(wait < Duration::from_secs(60), "{wait:?}");
            assert_eq!(shown(&memory), ["10.0.0.1"]);
        }
        memory.take(nobody(), Answer::Nothing, SLOW);
        assert!(memory.is_empty());
    }

    #[test]
    fn there_are_at_most_so_many_addresses_and_none_that_is_no_host() {
        let many: Vec<IpAddr> = (0..1000u32)
            .map(|n| IpAddr::from(n.to_be_bytes()))
            .collect();
        let mut memory = Memory::default();
        let ttl = Duration::from_secs(1);
        memory.take(
            Answer::Addresses(many, ttl),
            some(&["::", "ff02::1", "fd::1"], 1),
            SLOW,
        );
        assert_eq!(memory.addresses().len(), ADDRESSES + 1);
        assert!(
            memory
                .addresses()
                .iter()
                .all(|ip| !ip.is_unspecified() && !ip.is_multicast())
        );
    }
}
