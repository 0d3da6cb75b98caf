//! The launch contract of a job that is made of replicas: which of them this process is of.

use crate::failure::Failure;
use crate::launch::number;

/// One replica, and where all of them are as of its launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub replica: usize,
    pub replicas: usize,
    /// Fewer do not train.
    pub least: usize,
    /// Where rank 0 of each replica listens for the others; its own is what it binds.
    pub addresses: Vec<(String, u16)>,
}

impl Place {
    /// None where the job is not made of replicas.
    pub fn from_lookup(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Failure> {
        let Some(replica) = number(&get, "LINDOS_REPLICA")? else {
            return Ok(None);
        };
        let replicas = needed(&get, "LINDOS_REPLICAS")?;
        let least = needed(&get, "LINDOS_REPLICAS_MIN")?;
        if replica >= replicas || !(1..=replicas).contains(&least) {
            return usage(format!(
                "LINDOS_REPLICA={replica} LINDOS_REPLICAS={replicas} LINDOS_REPLICAS_MIN={least}: \
                 replicas run from 0 to LINDOS_REPLICAS - 1, and the least number from 1 up to all"
            ));
        }
        let name = "LINDOS_REPLICA_ADDRS";
        let list = get(name).ok_or_else(|| missing(name))?;
        let addresses = list.split(',').map(|entry| address(name, entry)).collect::<Result<_, _>>();
        let place = Self {
            replica: replica as usize,
            replicas: replicas as usize,
            least: least as usize,
            addresses: addresses?,
        };
        if place.addresses.len() != place.replicas {
            return usage(format!(
                "{name} has {} addresses and LINDOS_REPLICAS={replicas}: one for each, in order",
                place.addresses.len()
            ));
        }
        Ok(Some(place))
    }

    /// For a line that speaks of a rank.
    pub fn words(&self) -> String {
        format!(" in replica {} of {}", self.replica, self.replicas)
    }
}

fn needed(get: &impl Fn(&str) -> Option<String>, name: &str) -> Result<u64, Failure> {
    number(get, name)?.ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Failure {
    Failure::Usage(format!(
        "LINDOS_REPLICA is set and {name} is not\n\
         hint: set all of LINDOS_REPLICA, _REPLICAS, _REPLICAS_MIN and _REPLICA_ADDRS, or none"
    ))
}

fn address(name: &str, entry: &str) -> Result<(String, u16), Failure> {
    entry
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse::<u16>().ok().filter(|port| *port > 0)?)))
        .filter(|(host, _)| !host.is_empty())
        .map(|(host, port)| (host.trim_matches(['[', ']']).to_owned(), port))
        .ok_or_else(|| Failure::Usage(format!("{name}: {entry:?} is no host:port")))
}

fn usage<T>(message: String) -> Result<T, Failure> {
    Err(Failure::Usage(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 4] = [
        ("LINDOS_REPLICA", "1"),
        ("LINDOS_REPLICAS", "2"),
        ("LINDOS_REPLICAS_MIN", "1"),
        ("LINDOS_REPLICA_ADDRS", "node-1:29500,[fd00::2]:29501"),
    ];

    fn place(change: (&str, &str)) -> Result<Option<Place>, String> {
        let find = |name: &str| {
            let value = GOOD.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
            if name == change.0 { Some(change.1) } else { value }
        };
        Place::from_lookup(|name| find(name).filter(|value| !value.is_empty()).map(str::to_owned))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_contract_is_read() {
        let addresses = vec![("node-1".to_owned(), 29500), ("fd00::2".to_owned(), 29501)];
        let expected = Place { replica: 1, replicas: 2, least: 1, addresses };
        assert_eq!(place(("", "")).unwrap(), Some(expected));
    }

    #[test]
    fn without_its_first_variable_there_are_no_replicas() {
        assert_eq!(place(("LINDOS_REPLICA", "")).unwrap(), None);
    }

    #[test]
    fn what_does_not_fit_together_is_an_error_that_names_it() {
        for (change, expected) in [
            (("LINDOS_REPLICA", "2"), "LINDOS_REPLICA=2 LINDOS_REPLICAS=2"),
            (("LINDOS_REPLICAS_MIN", "0"), "LINDOS_REPLICAS_MIN=0"),
            (("LINDOS_REPLICAS_MIN", "3"), "LINDOS_REPLICAS_MIN=3"),
            (("LINDOS_REPLICAS", ""), "LINDOS_REPLICAS is not"),
            (("LINDOS_REPLICA_ADDRS", ""), "LINDOS_REPLICA_ADDRS is not"),
            (("LINDOS_REPLICA_ADDRS", "a:1"), "has 1 addresses"),
            (("LINDOS_REPLICA_ADDRS", "a:1,b"), "\"b\" is no host:port"),
            (("LINDOS_REPLICA_ADDRS", "a:1,b:0"), "\"b:0\" is no host:port"),
        ] {
            let error = place(change).unwrap_err();
            assert!(error.contains(expected), "{change:?}: {error}");
        }
    }
}
