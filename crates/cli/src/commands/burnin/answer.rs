//! The end of a test of two that answers: on a port that is told of, for one peer.

use crate::failure::Failure;
use crate::output;
use lindos_hardware::burnin::network::{self, Server};
use lindos_hardware::burnin::{Faults, Limit};
use lindos_model::burnin::TestResult;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

pub struct Answering {
    server: Server,
}

/// Where to listen for `HOST[:PORT]`, and what the peer is to call the host. Behind a name is whatever
/// the peer finds there, which need not be what this node finds: then all addresses are listened on.
fn listen_on(address: &str) -> (SocketAddr, String) {
    if let Ok(address) = address.parse::<SocketAddr>() {
        return (address, of_ip(address.ip()));
    }
    if let Ok(ip) = address.parse::<IpAddr>() {
        return (SocketAddr::from((ip, 0)), of_ip(ip));
    }
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => (host, port.parse().unwrap_or(0)),
        _ => (address, 0),
    };
    (SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), host.to_string())
}

fn of_ip(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

impl Answering {
    /// Listens, and says where: in the file as one line, which is whole once it is there.
    pub fn begin(address: Option<&str>, file: Option<&Path>) -> Result<Option<Answering>, Failure> {
        let Some(address) = address else { return Ok(None) };
        let failed = |error: std::io::Error| {
            let hint = "name an address of this node, and a port that is free or none";
            Failure::bad_input(format!("no peer can be answered on {address}: {error}"), hint)
        };
        let (listens_on, host) = listen_on(address);
        let server = Server::bind(listens_on).map_err(failed)?;
        let told = format!("{host}:{}", server.address().map_err(failed)?.port());
        output::message(format!("a peer is answered on {told}"));
        if let Some(file) = file {
            let cannot = |error: std::io::Error| {
                Failure::bad_input(
                    format!("{}: {error}", file.display()),
                    "name a file in a folder that is there",
                )
            };
            let mut at = std::fs::File::create(file).map_err(cannot)?;
            at.write_all(format!("{told}\n").as_bytes()).map_err(cannot)?;
        }
        Ok(Some(Answering { server }))
    }

    /// Answers one peer, and returns when its test is over.
    pub fn answer(&self, within: Duration, faults: &dyn Faults) -> Vec<TestResult> {
        let told = |words: String| output::message(words);
        match self.server.answer_one(Limit::of(within), faults, &told) {
            Ok(true) => network::with_the_peer(),
            Ok(false) => network::without_peer(&format!("no peer came in {} s", within.as_secs())),
            Err(error) => network::without_peer(&format!("no peer could be answered: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_listened_on_and_a_name_is_passed_on() {
        let of = |address| {
            let (on, host) = listen_on(address);
            (on.to_string(), host)
        };
        let expected = |on: &str, host: &str| (on.to_string(), host.to_string());
        assert_eq!(of("10.0.0.7"), expected("10.0.0.7:0", "10.0.0.7"));
        assert_eq!(of("10.0.0.7:71"), expected("10.0.0.7:71", "10.0.0.7"));
        assert_eq!(of("fd00::7"), expected("[fd00::7]:0", "[fd00::7]"));
        assert_eq!(of("n7.fleet"), expected("0.0.0.0:0", "n7.fleet"));
        assert_eq!(of("n7.fleet:71"), expected("0.0.0.0:71", "n7.fleet"));
    }
}
